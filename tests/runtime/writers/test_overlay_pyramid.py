"""The overlay at full resolution, as other readers see it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.writers.jpeg_pyramid import JpegPyramid, encode_tile
from cellseg.runtime.writers.z_order import PyramidGrid, build_in_z_order
from tests.fakes import fake_bundle, run_fake

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

TILE_PX = 512


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """Make a picture that JPEG hardly changes."""
    y, x = np.ogrid[:height, :width]
    planes = [y * 200 // height + 0 * x, x * 200 // width + 0 * y, 90 + 0 * (x + y)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def written(path: Path, image: NDArray[np.uint8], mpp: tuple[float, float] | None = None) -> Path:
    grid = PyramidGrid(image.shape[:2], TILE_PX)

    def start(row: int, column: int) -> Callable[[], NDArray[np.uint8]]:
        y, x = row * TILE_PX, column * TILE_PX
        return lambda: image[y : y + TILE_PX, x : x + TILE_PX]

    with JpegPyramid(path, grid.level_hws, mpp) as pyramid:
        build_in_z_order(grid, start, encode_tile, pyramid.put)
    return path


@pytest.mark.parametrize("hw", [(1, 1), (1, 700), (512, 512), (513, 1100)])
def test_tifffile_reads_every_level(tmp_path: Path, hw: tuple[int, int]) -> None:
    image = smooth(*hw)
    with tifffile.TiffFile(written(tmp_path / "a.tif", image)) as tif:
        grid = PyramidGrid(hw, TILE_PX)
        assert tif.is_bigtiff
        assert [page.shape[:2] for page in tif.pages] == grid.level_hws
        found = tif.asarray(key=0).astype(int)
        assert np.abs(found.reshape(image.shape) - image).max() < 16
        assert [bool(page.is_reduced) for page in tif.pages] == [
            level > 0 for level in range(len(grid.level_hws))
        ]


@pytest.mark.parametrize("mpp", [(0.5, 0.25), (0.2305, 0.2305), (1e-3, 300.0)])
def test_every_level_states_its_pixel_size(tmp_path: Path, mpp: tuple[float, float]) -> None:
    path = written(tmp_path / "a.tif", smooth(600, 700), mpp)
    with tifffile.TiffFile(path) as tif:
        for level, page in enumerate(tif.pages):
            per_um = page.get_resolution("MICROMETER")
            assert [1 / each / 2**level for each in per_um] == pytest.approx(mpp, rel=1e-5)


def test_openslide_and_libvips_read_it(tmp_path: Path) -> None:
    openslide, pyvips = pytest.importorskip("openslide"), pytest.importorskip("pyvips")
    image = smooth(1500, 1100)
    path = str(written(tmp_path / "a.tif", image, (0.25, 0.25)))
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((1100, 1500), (550, 750), (275, 375))
        assert float(slide.properties["openslide.mpp-x"]) == 0.25
        region = np.asarray(slide.read_region((400, 900), 0, (300, 200)))[..., :3]
    assert np.abs(region.astype(int) - image[900:1100, 400:700]).max() < 16
    assert pyvips.Image.new_from_file(path, page=2).numpy().shape == (375, 275, 3)


def test_a_file_that_fails_has_no_directory(tmp_path: Path) -> None:
    def stop() -> None:
        with JpegPyramid(tmp_path / "a.tif", [(8, 8)], None) as pyramid:
            pyramid.put(0, 0, 0, b"tile")
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        stop()
    assert (tmp_path / "a.tif").read_bytes()[8:16] == bytes(8)


def test_a_run_paints_its_classes_on_the_slide_without_seams(tmp_path: Path) -> None:
    image = np.full((700, 1100, 3), 40, np.uint8)
    image[300:600, 400:800] = 220  # across the tiles' borders
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    options = {"kind": "IdentityEngine", "tile_px": 128, "write": ("overlay-pyramid",)}
    result, _ = run_fake(ArraySlide(image, mpp=0.5), tmp_path / "a", bundle, **options)
    assert list(result.files) == ["overlay.tif"]
    painted = tifffile.imread(result.files["overlay.tif"], key=0).astype(int)
    assert painted.shape == image.shape
    assert np.abs(painted[:290, :] - 40).max() < 4
    inside = painted[310:590, 410:790]
    assert np.abs(inside - [229, 215, 165]).max() < 6  # a quarter of the class' colour
    line = painted[300, 410:790]
    assert np.abs(line - [251, 203, 28]).max() < 40  # the outline, all along
    again, _ = run_fake(ArraySlide(image, mpp=0.5), tmp_path / "b", bundle, workers=4, **options)
    digests = {
        hashlib.sha256(run.files["overlay.tif"].read_bytes()).hexdigest() for run in (result, again)
    }
    assert len(digests) == 1
