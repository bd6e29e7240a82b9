"""Philips' TIFF stores whole tiles; what is padding is no part of a level."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cellseg.runtime.slides.readers import open_slide
from tests.slides import philips_spacings, scene, whole, write_philips

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIZES = [(640, 320, 1), (320, 160, 2), (160, 80, 4), (80, 40, 8), (40, 20, 16)]


def slide_with_empty_tiles() -> NDArray[np.uint8]:
    """Nine and a half tiles by four and a half, two of them white."""
    image: NDArray[np.uint8] = scene(300, 600)
    image[64:128, 128:256] = 255
    return image


@pytest.mark.parametrize(
    "spacings",
    ["", "none", philips_spacings(4), philips_spacings(5).replace("0.0005&", "0.5.1&")],
    ids=["of each level", "of none", "one too few", "no number"],
)
def test_levels_are_as_large_as_what_they_show(tmp_path: Path, spacings: str) -> None:
    path = write_philips(tmp_path / "a.tiff", slide_with_empty_tiles(), 5, spacings)
    with closing(open_slide(path)) as slide:
        assert [(lv.width_px, lv.height_px, lv.downsample) for lv in slide.levels] == SIZES


def test_sizes_and_pixels_are_openslides(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide", reason="the [wsi] extra is not installed")
    path = write_philips(tmp_path / "a.tiff", slide_with_empty_tiles(), 5)
    with closing(open_slide(path)) as slide, openslide.OpenSlide(path) as oracle:
        assert oracle.properties["openslide.vendor"] == "philips"
        assert tuple((lv.width_px, lv.height_px) for lv in slide.levels) == oracle.level_dimensions
        assert tuple(lv.downsample for lv in slide.levels) == oracle.level_downsamples
        assert (whole(slide)[64:128, 128:256] == 255).all()
        for level, size_wh in enumerate(oracle.level_dimensions):
            rgba = np.asarray(oracle.read_region((0, 0), level, size_wh)).astype(int)
            shown = np.where(rgba[..., 3:] == 0, 255, rgba[..., :3])  # never written: background
            assert np.abs(whole(slide, level) - shown).max() <= 1


def test_tiles_of_padding_alone_are_left_out(tmp_path: Path) -> None:
    spacings = philips_spacings(2).replace("0.0005", "0.001")
    image = slide_with_empty_tiles()
    path = write_philips(tmp_path / "a.tiff", image, 2, spacings)
    with closing(open_slide(path)) as slide:
        assert [(lv.width_px, lv.height_px) for lv in slide.levels] == [(640, 320), (160, 80)]
        assert np.abs(whole(slide, 1).astype(int) - image[:160:2, :320:2]).mean() < 3
