"""Cells found region by region are those of the whole image, numbered alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass

from cellseg.runtime.bundles.manifest import InteriorBorder
from cellseg.runtime.cells.parting import label_cells
from cellseg.runtime.cells.regions import (
    Labeller,
    LabellerWithin,
    RegionGrid,
    SeededLabeller,
    find_cells,
)
from cellseg.runtime.shapes.geojson import Region
from cellseg.runtime.shapes.roi import Roi
from cellseg.runtime.store.labels import ArrayLabels

RULE = InteriorBorder(
    interior_channel=1, seed_threshold=0.6, seed_blur_px=1.0, min_seed_px=6, min_area_px=8
)
SURE = RULE.model_copy(update={"min_sure": 0.5})
NECKS = RULE.model_copy(update={"seed_threshold": 0.1, "neck_depth": 0.2})


def field_of_nuclei(seed: int, hw: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Class map and interior of random, often touching, discs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: hw[0], : hw[1]]
    interior = np.zeros(hw, np.float32)
    classes = np.zeros(hw, np.uint8)
    for cy, cx, r in zip(
        rng.uniform(0, hw[0], count),
        rng.uniform(0, hw[1], count),
        rng.uniform(3, 8, count),
        strict=True,
    ):
        depth = r - np.hypot(y - cy, x - cx)
        classes[depth > 0] = 1
        interior = np.maximum(interior, np.clip(depth / r * 1.6, 0, 1))
    return classes, np.rint(interior * 255).astype(np.uint8)


def whole(
    classes: np.ndarray, interior: np.ndarray, rule: InteriorBorder = RULE
) -> tuple[np.ndarray, np.ndarray]:
    return label_cells(classes > 0, interior, rule)


def by_regions(
    classes: np.ndarray,
    interior: np.ndarray,
    core_px: int,
    margin_px: int,
    rule: InteriorBorder = RULE,
    roi: Roi | None = None,
) -> np.ndarray:
    grid = RegionGrid(classes.shape, core_px)
    labeller: Labeller = SeededLabeller(ArrayLabels(classes), ArrayLabels(interior), rule)
    if roi is not None:
        labeller = LabellerWithin(labeller, roi)
    regions = [find_cells(labeller, grid.core(i), margin_px) for i in range(len(grid))]
    names = np.sort(np.concatenate([r.first[r.is_own] for r in regions]))
    assert len(np.unique(names)) == len(names)
    labels = np.zeros(classes.shape, np.uint32)
    for index, region in enumerate(regions):
        y, x, h, w = grid.core(index)
        table = np.concatenate(([0], np.searchsorted(names, region.first) + 1)).astype(np.uint32)
        labels[y : y + h, x : x + w] = table[region.cells.painted((h, w))]
    return labels


@given(st.integers(0, 2**32 - 1), st.sampled_from([40, 64, 100]))
@settings(max_examples=15, deadline=None)
def test_regions_of_any_size_give_the_labels_of_the_whole_image(seed: int, core_px: int) -> None:
    classes, interior = field_of_nuclei(seed, (190, 230), 90)
    np.testing.assert_array_equal(
        by_regions(classes, interior, core_px, margin_px=40), whole(classes, interior)[0]
    )


@given(st.integers(0, 2**32 - 1), st.sampled_from([40, 64, 100]))
@settings(max_examples=8, deadline=None)
def test_faint_cells_are_left_out_whatever_region_they_lie_in(seed: int, core_px: int) -> None:
    classes, interior = field_of_nuclei(seed, (190, 230), 90)
    faint = np.random.default_rng(seed).random(classes.shape) < 0.5
    interior = (interior & 254) | faint  # half of the pixels are sure, so a good half of the cells
    expected = whole(classes, interior, SURE)[0]
    assert 0 < expected.max() < whole(classes, interior)[0].max()
    found = by_regions(classes, interior, core_px, margin_px=40, rule=SURE)
    np.testing.assert_array_equal(found, expected)


@given(st.integers(0, 2**32 - 1), st.sampled_from([40, 64, 100]))
@settings(max_examples=15, deadline=None)
def test_cells_part_at_necks_whatever_region_they_lie_in(seed: int, core_px: int) -> None:
    classes, interior = field_of_nuclei(seed, (190, 230), 90)
    expected = whole(classes, interior, NECKS)[0]
    found = by_regions(classes, interior, core_px, margin_px=16, rule=NECKS)
    np.testing.assert_array_equal(found, expected)


def star(seed: int, hw: tuple[int, int]) -> Roi:
    """Make a region of interest with many corners in the middle of an image."""
    rng, angles = np.random.default_rng(seed), np.linspace(0, 2 * np.pi, 12)[:-1]
    spokes = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(30, 95, (11, 1))
    ring = spokes + np.array([hw[1] / 2, hw[0] / 2])
    return Roi.of([Region(None, ((ring,),))], 1.0, hw, "r")


@given(st.integers(0, 2**32 - 1), st.sampled_from([40, 64, 100]))
@settings(max_examples=15, deadline=None)
def test_cells_of_a_roi_are_those_with_their_centroid_in_it(seed: int, core_px: int) -> None:
    classes, interior = field_of_nuclei(seed, (190, 230), 90)
    labels, roi = whole(classes, interior)[0], star(seed, (190, 230))
    y, x = np.array(center_of_mass(labels > 0, labels, range(1, labels.max() + 1))).T + 0.5
    is_kept = roi.has(y, x)
    assert 0 < is_kept.sum() < len(is_kept)
    number = np.concatenate(([0], np.where(is_kept, is_kept.cumsum(), 0)))
    found = by_regions(classes, interior, core_px, margin_px=16, roi=roi)
    np.testing.assert_array_equal(found, number[labels])


def test_a_cell_that_no_region_sees_whole_is_kept_wherever_it_lies() -> None:
    """All regions say so of it: none of its pieces is dropped."""
    classes = np.zeros((1300, 1300), np.uint8)
    classes[20:1280, 20:60] = 1
    interior = (classes * 254).astype(np.uint8)
    corner = np.array([[1000.0, 0.0], [1300.0, 0.0], [1300.0, 90.0]])
    roi = Roi.of([Region(None, ((corner,),))], 1.0, (1300, 1300), "r")
    labels = by_regions(classes, interior, core_px=64, margin_px=8, roi=roi)
    np.testing.assert_array_equal(labels, classes)


def test_necks_part_cells_of_a_dense_field() -> None:
    classes, interior = field_of_nuclei(7, (512, 512), 900)
    counts = [
        whole(classes, interior, NECKS.model_copy(update={"neck_depth": depth}))[0].max()
        for depth in (0.0, 0.3, 0.2)
    ]
    assert counts[0] < counts[1] < counts[2]


def test_a_faint_cell_larger_than_its_region_is_kept_whole() -> None:
    classes = np.zeros((1300, 1300), np.uint8)
    classes[20:1280, 20:60] = 1
    interior = (classes * 254).astype(np.uint8)
    labels = by_regions(classes, interior, core_px=64, margin_px=8, rule=SURE)
    np.testing.assert_array_equal(labels, classes)


def test_a_cell_larger_than_its_region_is_kept_whole() -> None:
    classes = np.zeros((300, 300), np.uint8)
    classes[20:280, 20:280] = 1
    interior = np.where(classes > 0, 255, 0).astype(np.uint8)
    labels = by_regions(classes, interior, core_px=32, margin_px=8)
    np.testing.assert_array_equal(labels, classes)


def test_a_region_without_foreground_is_empty() -> None:
    blank = ArrayLabels(np.zeros((64, 64), np.uint8))
    found = find_cells(SeededLabeller(blank, blank, RULE), (0, 0, 32, 32))
    assert len(found.cells) == len(found.first) == len(found.own) == 0


def test_every_pixel_lies_in_one_core() -> None:
    grid = RegionGrid((70, 101), core_px=32)
    seen = np.zeros(grid.hw, int)
    for index in range(len(grid)):
        y, x, h, w = grid.core(index)
        seen[y : y + h, x : x + w] += 1
    assert (seen == 1).all()
    assert list(grid.touching(30, 30, 4, 4)) == [0, 1, 4, 5]


@pytest.mark.parametrize("core_px", [128, 256])
def test_a_dense_field_gives_one_table_for_every_region_size(core_px: int) -> None:
    classes, interior = field_of_nuclei(7, (512, 512), 900)
    labels = by_regions(classes, interior, core_px, margin_px=64)
    np.testing.assert_array_equal(labels, whole(classes, interior)[0])
