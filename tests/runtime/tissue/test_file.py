"""A mask that somebody made decides; one that cannot be of this slide is refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import tifffile

from cellseg.errors import RegionError, StoreError
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.tissue import file as tissue_file
from cellseg.runtime.tissue.file import read_tissue_mask
from tests.fakes import fake_bundle, nuclei_picture, run_fake
from tests.slides import png

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SLIDE = ArraySlide(np.broadcast_to(np.uint8(9), (2000, 3000)), mpp=0.25)
WANTED = np.zeros((20, 30), np.uint8)
WANTED[5:15, 10:25] = 1


def written(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, **options)
    else:
        assert cv2.imwrite(str(path), pixels)
    return path


def with_alpha() -> NDArray[np.uint8]:
    """Colour everywhere, opaque where tissue is."""
    return np.dstack([np.full((20, 30, 3), 200, np.uint8), WANTED * 255])


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("m.png", WANTED),
        ("m.png", WANTED * 255),
        ("m.png", np.dstack([WANTED * 0, WANTED * 0, WANTED])),
        ("m.png", with_alpha()),
        ("m.tif", WANTED),
        ("m.tif", WANTED.astype(bool)),
        ("m.tif", WANTED.astype(np.float32) / 7),
        ("m.tif", WANTED.astype(np.uint16) * 3000),
    ],
    ids=["ones", "255", "red", "alpha", "tiff", "bits", "float", "16 bit"],
)
def test_tissue_is_what_is_not_zero(tmp_path: Path, name: str, pixels: NDArray[Any]) -> None:
    mask = read_tissue_mask(written(tmp_path / name, pixels), SLIDE, (1000, 1500))
    np.testing.assert_array_equal(mask.mask, WANTED.astype(bool))
    assert (mask.ground, mask.wl_per_mask) == ("given", (50.0, 50.0))
    assert mask.covers(250, 500, 750, 1250)
    classes = np.ones((1000, 1500), np.uint8)
    mask.blank_outside(classes, 0, 0)
    assert classes.sum() == 500 * 750


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (np.where(WANTED == 1, np.float32(1), np.float32(np.nan)), {}),
        (np.stack([WANTED * 0, WANTED, WANTED]), {"photometric": "rgb", "planarconfig": 2}),
        ((1 - WANTED) * 255, {"photometric": "miniswhite"}),
        ((1 - WANTED).astype(np.uint16) * 65535, {"photometric": "miniswhite"}),
        (WANTED.astype(bool), {"photometric": "miniswhite"}),
        (WANTED * 255, {"compression": "jpeg", "compressionargs": {"level": 30}}),
    ],
    ids=["no number", "planes", "white is 0", "white is 0, 16 bit", "white is 0, bits", "jpeg"],
)
def test_what_a_tiff_shows_as_black_is_ground(
    tmp_path: Path, pixels: NDArray[Any], options: dict[str, Any]
) -> None:
    mask = read_tissue_mask(written(tmp_path / "m.tif", pixels, **options), SLIDE, (1000, 1500))
    np.testing.assert_array_equal(mask.mask, WANTED.astype(bool))


def test_ringing_of_a_jpeg_is_no_tissue(tmp_path: Path) -> None:
    path = tmp_path / "m.jpg"
    assert cv2.imwrite(str(path), WANTED * 255, [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert np.count_nonzero(cv2.imread(str(path), 0)) > WANTED.sum()
    mask = read_tissue_mask(path, SLIDE, (1000, 1500))
    np.testing.assert_array_equal(mask.mask, WANTED.astype(bool))


@pytest.mark.parametrize("bits", [1, 8])
def test_of_a_palette_the_numbers_count(tmp_path: Path, bits: int) -> None:
    rows = np.packbits(WANTED, axis=1) if bits == 1 else WANTED
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    colours = bytes([255, 255, 255, 0, 128, 0])  # ground is white
    path = tmp_path / "m.png"
    path.write_bytes(png((30, 20), bits, 3, lines, (b"PLTE", colours)))
    mask = read_tissue_mask(path, SLIDE, (1000, 1500))
    np.testing.assert_array_equal(mask.mask, WANTED.astype(bool))


@pytest.mark.parametrize("clear", [False, True], ids=["black", "transparent"])
def test_a_palette_that_shows_its_ground_counts_by_what_it_shows(
    tmp_path: Path, clear: bool
) -> None:
    lines = b"".join(b"\0" + row.tobytes() for row in 1 - WANTED)  # tissue is number 0
    ground = (200, 200, 200) if clear else (0, 0, 0)
    chunks = [(b"PLTE", bytes([255, 255, 255, *ground]))]
    chunks += [(b"tRNS", bytes([255, 0]))] if clear else []
    path = tmp_path / "m.png"
    path.write_bytes(png((30, 20), 8, 3, lines, *chunks))
    mask = read_tissue_mask(path, SLIDE, (1000, 1500))
    np.testing.assert_array_equal(mask.mask, WANTED.astype(bool))


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    for shape, fits in {(200, 300): True, (200, 302): True, (200, 310): False}.items():
        path = written(tmp_path / "m.png", np.ones(shape, np.uint8))
        if fits:
            read_tissue_mask(path, SLIDE, (1000, 1500))
            continue
        with pytest.raises(RegionError, match="3000 x 2000 px, to 1%. Received: 310 x 200 px"):
            read_tissue_mask(path, SLIDE, (1000, 1500))


def test_of_a_pyramid_the_largest_level_that_fits_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tissue_file, "MAX_MASK_PX", 7000)
    path = tmp_path / "m.ome.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(np.ones((200, 300), np.uint8), subifds=2, tile=(64, 64), metadata={"axes": "YX"})
        for side in (2, 4):
            tif.write(np.ones((200 // side, 300 // side), np.uint8), subfiletype=1, tile=(64, 64))
    assert read_tissue_mask(path, SLIDE, (1000, 1500)).mask.shape == (50, 75)
    with pytest.raises(RegionError, match="at most 7000 pixels"):
        read_tissue_mask(written(tmp_path / "m.png", np.ones((100, 150))), SLIDE, (1000, 1500))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    for content in (b"", b"nothing", b"II*\0nothing to see here"):
        path.write_bytes(content)
        with pytest.raises(RegionError, match=r"m\.png: the tissue mask"):
            read_tissue_mask(path, SLIDE, (10, 15))
    with pytest.raises(RegionError, match="cannot be read"):
        read_tissue_mask(tmp_path / "none.png", SLIDE, (10, 15))


def test_a_package_that_does_not_load_is_no_fault_of_the_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.ones((100, 150), np.uint8))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImportError, match="tifffile"):
        read_tissue_mask(path, SLIDE, (1000, 1500))


def test_a_run_takes_the_mask_and_knows_another_one(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    slide = ArraySlide(nuclei_picture(200, 300))
    mask = written(tmp_path / "m.png", WANTED)
    part, engine = run_fake(slide, tmp_path / "a", bundle, tile_px=64, tissue_mask=mask)
    whole, _ = run_fake(slide, tmp_path / "b", bundle, tile_px=64)
    found, all_of_it = (
        tifffile.imread(result.folder / "classes.ome.tif") for result in (part, whole)
    )
    inside = WANTED.astype(bool).repeat(10, axis=0).repeat(10, axis=1)
    np.testing.assert_array_equal(found, np.where(inside, all_of_it, 0))
    plan = part.report["plan"]
    assert (plan["ground"], plan["tissue_fraction"]) == ("given", 0.25)
    assert engine.calls == plan["tiles_total"] - plan["tiles_skipped"] < plan["tiles_total"]
    with pytest.raises(StoreError, match="tissue was"):
        run_fake(slide, tmp_path / "a", bundle, tile_px=64)
