"""Tissue masks: no cell is lost, empty ground is left out, tiles are chosen by what they keep."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.tiles.plan import plan_tiles
from cellseg.runtime.tissue.ground import tissue_of
from cellseg.runtime.tissue.mask import TissueLimits, TissueMask, find_tissue

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def slide_with_tissue(ground: int, tissue: int, dtype: type = np.uint8) -> NDArray[np.generic]:
    """2000 x 3000 px of noisy ground with one piece of tissue in rows 400..900."""
    noise = np.random.default_rng(0).integers(-2, 3, (2000, 3000, 3))
    image = np.full((2000, 3000, 3), ground) + noise
    image[400:900, 500:1500] += tissue - ground
    return image.clip(0, np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize(
    ("ground", "tissue", "dtype", "name"),
    [
        (240, 170, np.uint8, "bright"),
        (225, 205, np.uint8, "bright"),
        (12, 90, np.uint8, "dark"),
        (12, 30, np.uint8, "dark"),
        (300, 900, np.uint16, "dark"),
    ],
)
def test_tissue_is_found_on_bright_and_dark_ground(
    ground: int, tissue: int, dtype: type, name: str
) -> None:
    slide = ArraySlide(slide_with_tissue(ground, tissue, dtype), mpp=0.5)
    mask = find_tissue(slide, (2000, 3000))
    assert mask.ground == name
    assert mask.covers(400, 500, 900, 1500)
    # Half a million of six, and a margin of 128 px around it.
    assert mask.fraction < 0.2


@pytest.mark.parametrize("level", [0, 7, 250, 255])
def test_a_blank_slide_holds_no_tissue(level: int) -> None:
    slide = ArraySlide(np.full((700, 900), level, np.uint8), mpp=0.5)
    mask = find_tissue(slide, (700, 900))
    assert (mask.ground, mask.fraction) == ("blank", 0.0)
    assert len(mask.tiles_with_tissue(plan_tiles((700, 900), 256, 16, 16))) == 0


def test_where_the_ground_is_unclear_all_is_tissue() -> None:
    image = np.full((40, 40, 3), 120, np.uint8)
    image[:8] = 230
    assert tissue_of(image)[0] == "unclear"
    assert tissue_of(image)[1].all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(100, 900), st.integers(100, 900))
def test_tiles_with_tissue_are_those_whose_kept_pixels_touch_it(
    seed: int, height: int, width: int
) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.random((-(-height // 16), -(-width // 16))) > 0.9
    mask = TissueMask(cells, (16.0, 16.0), "bright")
    plan = plan_tiles((height, width), 128, 16, 16)
    pixels = cells.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
    expected = [tile.index for tile in plan if pixels[tile.outer].any()]
    assert mask.tiles_with_tissue(plan).tolist() == expected


def test_blanking_does_not_depend_on_the_window() -> None:
    rng = np.random.default_rng(1)
    mask = TissueMask(rng.random((9, 13)) > 0.5, (100 / 9, 150 / 13), "dark")
    whole = np.ones((100, 150), np.uint8)
    mask.blank_outside(whole, 0, 0)
    part = np.ones((31, 47), np.uint8)
    mask.blank_outside(part, 20, 55)
    np.testing.assert_array_equal(part, whole[20:51, 55:102])
    assert 0 < whole.mean() < 1


def test_the_whole_mask_leaves_nothing_out() -> None:
    mask = TissueMask.whole((333, 77))
    classes = np.ones((5, 5), np.uint8)
    mask.blank_outside(classes, 300, 70)
    assert classes.all()
    plan = plan_tiles((333, 77), 64, 8, 8)
    assert len(mask.tiles_with_tissue(plan)) == len(plan)
    assert TissueMask.whole((333, 77)).digest == mask.digest


def test_a_huge_slide_gets_a_mask_of_bounded_size() -> None:
    image = np.broadcast_to(np.uint8(255), (64, 300_000))
    mask = find_tissue(ArraySlide(image, mpp=0.25), (64, 300_000))
    assert max(mask.mask.shape) < 2 * 4096


def test_annotated_nuclei_lie_inside_the_mask(shared_data: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    folder = shared_data / "dsb2018_nuclei" / "valid"
    with (shared_data / "dsb2018_nuclei" / "images.csv").open() as kinds:
        expected = {row["stem"]: row["kind"] for row in csv.DictReader(kinds)}
    for path in sorted((folder / "images").glob("*.png")):
        image = cv2.imread(str(path))[..., ::-1]
        nuclei = cv2.imread(str(folder / "masks" / path.name), 0) > 0
        mask = find_tissue(ArraySlide(image, mpp=0.5), nuclei.shape)
        assert mask.ground == ("dark" if expected[path.stem] == "fluorescence" else "bright")
        kept = nuclei.astype(np.uint8)
        mask.blank_outside(kept, 0, 0)
        assert kept.sum() >= 0.999 * nuclei.sum()


def test_specks_go_and_holes_are_filled_below_their_limits() -> None:
    image = np.full((3200, 3200, 3), 240, np.uint8)
    image[800:2400, 800:2400] = 150  # tissue, 0.64 mm² at 0.5 microns a pixel
    image[1200:1600, 1200:1600] = 240  # a hole of 0.04 mm²
    image[2880:2960, 2880:2960] = 150  # a speck of 0.0016 mm²
    slide = ArraySlide(image, mpp=0.5)

    def inside(y: int, x: int, **limits: float) -> bool:
        mask = find_tissue(slide, (3200, 3200), TissueLimits(**limits))
        return mask.covers(y, x, y + 1, x + 1)

    assert not inside(1400, 1400)
    assert inside(1400, 1400, hole_um2=50_000)
    assert inside(2920, 2920)
    assert not inside(2920, 2920, speck_um2=2000)
    assert inside(1000, 1000, speck_um2=2000)
    assert not inside(100, 100, hole_um2=1e9)  # the ground outside is no hole


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_in_bands_is_told_apart_as_in_one(
    dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ground, tissue in ((240, 170), (12, 90)):
        picture = slide_with_tissue(ground, tissue, dtype)[::8, ::8]
        whole = tissue_of(picture)
        monkeypatch.setattr("cellseg.runtime.tissue.ground._BAND_PX", 1000)
        parts = tissue_of(picture)
        monkeypatch.undo()
        assert parts[0] == whole[0]
        np.testing.assert_array_equal(parts[1], whole[1])


@given(st.lists(st.integers(0, 40), min_size=1), st.floats(0, 100))
def test_percentiles_from_counts_are_numpys(values: list[int], percent: float) -> None:
    from cellseg.runtime.tissue.ground import _percentile

    found = _percentile(np.bincount(values), percent)
    assert found == pytest.approx(float(np.percentile(values, percent)))


@pytest.mark.parametrize("colour", [(9, 200, 200), (200, 9, 9)])
def test_flat_colours_are_told_apart_without_a_warning(colour: tuple[int, int, int]) -> None:
    assert tissue_of(np.broadcast_to(np.array(colour, np.uint8), (30, 40, 3)))[1].shape == (30, 40)
