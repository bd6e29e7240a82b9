"""Label files: what other readers see in them, level by level."""

from __future__ import annotations

import hashlib
import sys
import xml.etree.ElementTree as ElementTree
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from cellseg.runtime.store.labels import ArrayLabels, StoredPlane, halved, windows
from cellseg.runtime.store.packing import pack
from cellseg.runtime.store.result_store import ResultStore
from cellseg.runtime.tiles.plan import plan_tiles
from cellseg.runtime.writers.ome_tiff import LabelImage, level_count, write_ome_tiff

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PALETTE = np.array([[0, 0, 0], [255, 200, 0], [0, 90, 255]], np.uint8)
IMAGE = LabelImage("classes", (0.5, 0.25), ("background", "nucleus", "zell<kern>µ"), PALETTE)
OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def blobs(height: int, width: int, dtype: Any = np.uint8) -> NDArray[Any]:
    rng = np.random.default_rng(height + width)
    coarse = rng.integers(0, 3, (-(-height // 37), -(-width // 37)))
    return coarse.repeat(37, 0).repeat(37, 1)[:height, :width].astype(dtype)


def written(path: Path, labels: NDArray[Any], image: LabelImage = IMAGE) -> Path:
    write_ome_tiff(path, ArrayLabels(labels), image)
    return path


@pytest.mark.parametrize(
    "hw", [(1, 1), (1, 3000), (511, 512), (513, 700), (1500, 2100), (600, 4200)]
)
def test_every_level_is_the_half_of_the_one_before(tmp_path: Path, hw: tuple[int, int]) -> None:
    labels = blobs(*hw)
    with tifffile.TiffFile(written(tmp_path / "a.ome.tif", labels)) as tif:
        levels = tif.series[0].levels
        assert len(levels) == level_count(hw)
        for level in levels:
            found = level.asarray().reshape(labels.shape)
            np.testing.assert_array_equal(found, labels)
            labels = halved(labels)


def test_the_file_is_what_ome_and_bigtiff_ask_for(tmp_path: Path) -> None:
    with tifffile.TiffFile(written(tmp_path / "a.ome.tif", blobs(1500, 2100))) as tif:
        page = tif.pages.first
        assert (tif.is_bigtiff, tif.is_ome) == (True, True)
        assert (page.tilewidth, page.tilelength) == (512, 512)
        assert page.photometric == tifffile.PHOTOMETRIC.PALETTE
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert len(page.subifds) == 3
        assert (page.colormap[:, :3].T // 257).tolist() == PALETTE.tolist()
        assert page.get_resolution("MICROMETER") == pytest.approx((2.0, 4.0))
        assert not {"Software", "DateTime"} & {tag.name for tag in page.tags}


def test_the_xml_names_size_pixel_size_and_classes(tmp_path: Path) -> None:
    with tifffile.TiffFile(written(tmp_path / "a.ome.tif", blobs(600, 700))) as tif:
        root = ElementTree.fromstring(tif.ome_metadata)
    pixels = root.find(f".//{OME}Pixels")
    assert pixels is not None
    assert (pixels.get("SizeX"), pixels.get("SizeY"), pixels.get("Type")) == ("700", "600", "uint8")
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY")) == ("0.5", "0.25")
    names = {item.get("K"): item.text for item in root.iter(f"{OME}M")}
    assert names == {"0": "background", "1": "nucleus", "2": "zell<kern>µ"}


def test_names_are_stored_as_utf_8(tmp_path: Path) -> None:
    """A character reference would be XML all the same, but Bio-Formats takes its `&` away."""
    path = written(tmp_path / "a.ome.tif", blobs(60, 60), LabelImage("cells/mm²", (0.5, 0.5)))
    with tifffile.TiffFile(path) as tif:
        stored = tif.pages.first.tags["ImageDescription"].value
        raw = path.read_bytes()
    assert stored.count('Name="cells/mm²"') == 2
    assert raw.count("cells/mm²".encode()) == 2


def test_equal_labels_give_equal_bytes(tmp_path: Path) -> None:
    labels = blobs(1100, 900)
    digests = {
        hashlib.sha256(written(tmp_path / f"{i}.ome.tif", labels).read_bytes()).hexdigest()
        for i in range(3)
    }
    assert len(digests) == 1


def test_instance_labels_keep_their_32_bits(tmp_path: Path) -> None:
    labels = blobs(700, 600, np.uint32) * np.uint32(1_000_003)
    path = written(tmp_path / "l.ome.tif", labels, LabelImage("labels"))
    with tifffile.TiffFile(path) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISBLACK
        np.testing.assert_array_equal(tif.asarray(), labels)
        assert tif.series[0].levels[1].dtype == np.uint32


def test_a_file_without_pixel_size_claims_none(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ome.tif", blobs(60, 60), LabelImage("classes"))
    with tifffile.TiffFile(path) as tif:
        assert "PhysicalSize" not in (tif.ome_metadata or "")
        assert "StructuredAnnotations" not in (tif.ome_metadata or "")


def test_a_tifffile_that_failed_to_load_in_another_thread_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", ModuleType("tifffile"))
    with pytest.raises(ImportError, match="TiffWriter"):
        written(tmp_path / "a.tif", blobs(40, 40))


def test_every_window_is_seen_once(tmp_path: Path) -> None:
    labels, seen = blobs(1100, 900), np.zeros((1100, 900), np.uint8)

    def see(y0: int, x0: int, part: NDArray[Any]) -> None:
        seen[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] += part + 1

    write_ome_tiff(tmp_path / "a.ome.tif", ArrayLabels(labels), IMAGE, see)
    np.testing.assert_array_equal(seen, labels + 1)


def test_stored_tiles_come_together_and_missing_ones_are_background(tmp_path: Path) -> None:
    labels = blobs(700, 900)
    plan = plan_tiles(labels.shape, 256, 20, 4)
    store = ResultStore(tmp_path)
    store.begin({})
    for tile in plan:
        if tile.index == 3:
            labels[tile.outer] = 0
        else:
            store.put(tile.index, {"classes": pack(labels[tile.outer])})
    store.commit(0.0, {})
    source = StoredPlane(plan, store)
    for y, x, h, w in [*windows(labels.shape, 300), (5, 7, 690, 888)]:
        np.testing.assert_array_equal(source.read(y, x, h, w), labels[y : y + h, x : x + w])
    store.remove()


def test_openslide_reads_the_classes_in_colour(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    labels = blobs(1500, 2100)
    with openslide.OpenSlide(written(tmp_path / "a.ome.tif", labels)) as slide:
        assert slide.dimensions == (2100, 1500)
        assert float(slide.properties["openslide.mpp-x"]) == 0.5
        region = np.asarray(slide.read_region((300, 700), 0, (400, 200)))[..., :3]
    np.testing.assert_array_equal(region, PALETTE[labels[700:900, 300:700]])


def test_libvips_reads_every_level(tmp_path: Path) -> None:
    pyvips = pytest.importorskip("pyvips")
    labels = blobs(1500, 2100)
    path = str(written(tmp_path / "a.ome.tif", labels))
    np.testing.assert_array_equal(pyvips.Image.new_from_file(path).numpy(), PALETTE[labels])
    half = pyvips.Image.new_from_file(path, subifd=0).numpy()
    np.testing.assert_array_equal(half, PALETTE[halved(labels)])
