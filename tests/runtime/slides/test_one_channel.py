"""One channel of a file that holds several: read alone, as grey, whatever the file's layout."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cellseg.errors import CellsegError, SlideError
from cellseg.runtime.report.folder import RunFolder
from cellseg.runtime.report.page import write_report
from cellseg.runtime.slides.openslide import OpenSlideSlide
from cellseg.runtime.slides.readers import open_slide
from tests.fakes import fake_bundle, nuclei_picture, run_fake
from tests.slides import grey, halved, scene, whole, write_svs

STAINS = ["DAPI", "CD3", "CD8", "PanCK", "AF"]
TILED = {"tile": (64, 64), "compression": "deflate", "metadata": None}


def stains(dtype: Any = np.uint16) -> NDArray[Any]:
    """Return five channels (5, y, x), no two alike."""
    image = scene(dtype=dtype)
    return np.stack([*np.moveaxis(image, -1, 0), image[::-1, :, 0], image[:, ::-1, 1]])


def write_ome(path: Path, planes: NDArray[Any], names: list[str] | None = STAINS) -> Path:
    """Write a pyramid of two levels, each channel a page."""
    about: dict[str, Any] = {"axes": "CYX"} | ({"Channel": {"Name": names}} if names else {})
    options: dict[str, Any] = {"tile": (64, 64), "photometric": "minisblack", "compression": "lzw"}
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(planes, subifds=1, metadata=about, **options)
        half = np.stack([halved(plane) for plane in planes])
        tif.write(half, subfiletype=1, **options)
    return path


def write_interleaved_ome(path: Path, planes: NDArray[Any]) -> Path:
    image = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    about = {"axes": "YXS", "Channel": {"Name": STAINS}}
    options = {**TILED, "photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(path, image, ome=True, **(options | {"metadata": about}))
    return path


def write_samples(path: Path, planes: NDArray[Any], *, apart: bool, **options: Any) -> Path:
    image = planes if apart else np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    config = "separate" if apart else "contig"
    tifffile.imwrite(
        path, image, photometric="minisblack", planarconfig=config, metadata=None, **options
    )
    return path


def write_pages(path: Path, planes: NDArray[Any]) -> Path:
    """Write pages as Akoya's QPTIFF has them: channels, thumbnail, channels at half the size."""
    xml = "<PerkinElmer-QPI-ImageDescription><Biomarker>{}</Biomarker></PerkinElmer>"
    options: dict[str, Any] = {"tile": (64, 64), "photometric": "minisblack", "metadata": None}
    with tifffile.TiffWriter(path) as tif:
        for name, plane in zip(STAINS, planes, strict=True):
            tif.write(plane, description=xml.format(name), **options)
        tif.write(scene(60, 80), photometric="rgb", metadata=None)
        for plane in planes:
            tif.write(halved(plane), subfiletype=1, **options)
    return path


def write_imagej(path: Path, planes: NDArray[Any]) -> Path:
    tifffile.imwrite(path, planes, imagej=True, metadata={"axes": "CYX"})
    return path


WRITERS: dict[str, Callable[[Path, NDArray[Any]], Path]] = {
    "OME": write_ome,
    "OME, interleaved": write_interleaved_ome,
    "interleaved tiles": lambda p, x: write_samples(
        p, x, apart=False, tile=(64, 64), compression="deflate"
    ),
    "interleaved, raw": lambda p, x: write_samples(p, x, apart=False),
    "planes": lambda p, x: write_samples(p, x, apart=True, tile=(64, 64), compression="zstd"),
    "planes, raw": lambda p, x: write_samples(p, x, apart=True),
    "pages": write_pages,
    "ImageJ": write_imagej,
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", WRITERS)
def test_a_channel_is_read_alone_by_its_number(tmp_path: Path, layout: str, dtype: Any) -> None:
    planes = stains(dtype)
    path = WRITERS[layout](tmp_path / "a.tif", planes)
    for number, plane in enumerate(planes, 1):
        with closing(open_slide(path, channel=number)) as slide:
            assert slide.dtype == dtype
            assert slide.properties["channel"] == f"{number} of 5"
            assert np.array_equal(whole(slide), np.dstack([plane] * 3))


@pytest.mark.parametrize("layout", ["OME", "pages"])
def test_its_levels_are_of_the_same_channel(tmp_path: Path, layout: str) -> None:
    path = WRITERS[layout](tmp_path / "a.tif", planes := stains())
    with closing(open_slide(path, channel="cd8")) as slide:
        assert slide.properties["channel name"] == "CD8"
        assert [level.downsample for level in slide.levels] == [1, 2]
        assert np.array_equal(whole(slide, 1)[..., 0], halved(planes[2]))


@pytest.mark.parametrize("layout", WRITERS)
def test_without_a_choice_it_is_refused_with_how_to_choose(tmp_path: Path, layout: str) -> None:
    with pytest.raises(SlideError, match="one channel or be RGB|one image") as caught:
        open_slide(WRITERS[layout](tmp_path / "a.tif", stains()))
    assert "--channel" in str(caught.value.hint)


def test_a_channel_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.ome.tif", stains())
    for wanted in ("DAPY", "0", "6", 6):
        with pytest.raises(SlideError, match=f"no such channel. Received: channel={wanted}") as got:
            open_slide(path, channel=wanted)
        assert "1 DAPI, 2 CD3" in str(got.value.hint)


def test_names_go_before_numbers_and_must_be_of_one_channel(tmp_path: Path) -> None:
    planes = stains()
    path = write_ome(tmp_path / "a.ome.tif", planes, ["2", "1", "x", "x", "488"])
    for wanted, index in {"1": 1, "2": 0, "488": 4, "4": 3}.items():
        with closing(open_slide(path, channel=wanted)) as slide:
            assert np.array_equal(whole(slide)[..., 0], planes[index])
    with pytest.raises(SlideError, match="several channels") as caught:
        open_slide(path, channel="X")
    assert "3, 4" in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["png", "rgba.png", "tif", "palette.tif", "ome.tif"])
def test_of_colours_one_is_read_as_grey(tmp_path: Path, kind: str) -> None:
    path, image = tmp_path / f"a.{kind}", scene()
    if kind == "rgba.png":
        half = np.full(image.shape[:2], 128, np.uint8)
        cv2.imwrite(str(path), np.dstack([image[..., ::-1], half]))
    elif kind == "png":
        cv2.imwrite(str(path), image[..., ::-1])
    elif kind == "palette.tif":
        table = np.random.default_rng(0).integers(0, 65536, (3, 256), np.uint16)
        tifffile.imwrite(path, grey(), photometric="palette", colormap=table)
    else:
        tifffile.imwrite(path, image, photometric="rgb", ome=kind == "ome.tif", tile=(64, 64))
    with closing(open_slide(path)) as slide:
        expected = whole(slide)
    for wanted, index in {"green": 1, "3": 2}.items():
        with closing(open_slide(path, channel=wanted)) as slide:
            assert np.array_equal(whole(slide), np.dstack([expected[..., index]] * 3))


def test_openslide_gives_one_colour_too(tmp_path: Path) -> None:
    pytest.importorskip("openslide", reason="the [wsi] extra is not installed")
    path = write_svs(tmp_path / "a.svs", scene(), compression="jpeg")
    with closing(OpenSlideSlide(path)) as colours, closing(OpenSlideSlide(path, None, 3)) as blue:
        assert np.array_equal(whole(blue), np.dstack([whole(colours)[..., 2]] * 3))


def test_a_grey_image_has_one_channel(tmp_path: Path) -> None:
    for path in (tmp_path / "a.png", tmp_path / "a.tif"):
        assert cv2.imwrite(str(path), grey())
        with closing(open_slide(path, channel=1)) as slide:
            assert np.array_equal(whole(slide)[..., 0], grey())
        with pytest.raises(SlideError, match="no such channel"):
            open_slide(path, channel="DAPI")


def test_a_cmyk_page_stays_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((9, 9, 4), np.uint8), photometric="separated")
    with pytest.raises(SlideError, match="photometric=separated"):
        open_slide(path, channel=1)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_channel_of_ome_zarr_is_read_alone(tmp_path: Path, version: str) -> None:
    zarr = pytest.importorskip("zarr", minversion="3", reason="the [zarr] extra is not installed")
    planes = stains()
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=int(version[2]) - 2)
    array = root.create_array("0", shape=planes.shape, dtype=planes.dtype, chunks=(1, 64, 64))
    array[:] = planes
    about: dict[str, Any] = {
        "multiscales": [{
            "version": version,
            "axes": [{"name": axis} for axis in "cyx"],
            "datasets": [{"path": "0"}],
        }],
        "omero": {"channels": [{"label": name} for name in STAINS]},
    }  # fmt: skip
    root.attrs.update(about if version == "0.4" else {"ome": {"version": version, **about}})
    with pytest.raises(SlideError, match=r"channels=5 \(1 DAPI"):
        open_slide(tmp_path / "a.zarr")
    for wanted, index in {"cd8": 2, "5": 4}.items():
        with closing(open_slide(tmp_path / "a.zarr", channel=wanted)) as slide:
            assert np.array_equal(whole(slide), np.dstack([planes[index]] * 3))


def test_a_run_says_which_channel_and_is_not_gone_on_with_by_another(tmp_path: Path) -> None:
    picture = nuclei_picture(300, 400)[..., 0]
    path = write_ome(tmp_path / "a.ome.tif", np.stack([picture[::-1], picture]), ["CD3", "DAPI"])
    bundle = fake_bundle(tmp_path / "m.cellseg").path
    options = {"mpp": 0.5, "tissue_mask": False}
    result, _ = run_fake(path, tmp_path / "out", bundle, channel="DAPI", **options)
    cv2.imwrite(str(alone := tmp_path / "alone.png"), picture)
    same, _ = run_fake(alone, tmp_path / "out", bundle, **options)
    maps = [tifffile.imread(each.folder / "classes.ome.tif", key=0) for each in (result, same)]
    assert maps[0].any()
    assert np.array_equal(*maps)
    about = result.report["input"]
    assert (about["channel"], about["channel_name"]) == (2, "DAPI")
    with RunFolder(result.folder) as folder:
        assert folder.view is not None
        assert np.array_equal(whole(folder.view.slide)[..., 0], picture)
    page = write_report(result.folder).read_text(encoding="utf-8")
    assert "2 (DAPI)" in page
    with pytest.raises(CellsegError, match="channel"):
        run_fake(path, tmp_path / "out", bundle, channel="CD3", **options)
