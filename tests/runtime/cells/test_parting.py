"""Touching cells part; the flood equals a plain Python priority queue and scikit-image."""

from __future__ import annotations

import heapq

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import morphology

from cellseg.runtime.bundles.manifest import InteriorBorder
from cellseg.runtime.cells.parting import instances_from_probabilities, label_cells, part_cells
from cellseg.runtime.kernels.instances import mark_seeds
from cellseg.runtime.kernels.watershed import SEA, flood
from tests.cell_pictures import runs_of

RULE = InteriorBorder(interior_channel=1, seed_threshold=0.5, min_area_px=4)
CROSS = ndimage.generate_binary_structure(2, 1)
SMOOTHED = RULE.model_copy(update={"seed_blur_px": 1.5, "min_seed_px": 12})


def work_for(framed: np.ndarray) -> np.ndarray:
    """Return memory for the kernels to work in."""
    return np.empty(3 * framed.size, np.int32)


def two_touching_discs() -> np.ndarray:
    """Probabilities of two nuclei of radius 9 that share a border, shape (32, 48, 3)."""
    y, x = np.mgrid[:32, :48]
    near = np.minimum(np.hypot(y - 16, x - 15), np.hypot(y - 16, x - 32))
    foreground, interior = near < 9, near < 6.5
    probabilities = np.zeros((32, 48, 3), np.float32)
    probabilities[..., 1] = np.where(interior, 0.9, np.where(foreground, 0.1, 0.0))
    probabilities[..., 0] = np.where(foreground, 0.0, 1.0)
    probabilities[..., 2] = 1 - probabilities[..., :2].sum(-1)
    return probabilities


def flood_with_a_heap(elevation: np.ndarray, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Flood as the kernel does, with the queue kept by a heap of (level, arrival)."""
    labels, arrival, heap = seeds.copy(), 0, []
    for y, x in zip(*np.nonzero(labels * mask), strict=True):
        heap.append((int(elevation[y, x]), arrival, y, x))
        arrival += 1
    heapq.heapify(heap)
    while heap:
        level, _, y, x = heapq.heappop(heap)
        for ny, nx in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
            inside = 0 <= ny < mask.shape[0] and 0 <= nx < mask.shape[1]
            if inside and mask[ny, nx] and labels[ny, nx] == 0:
                labels[ny, nx] = labels[y, x]
                heapq.heappush(heap, (max(level, int(elevation[ny, nx])), arrival, ny, nx))
                arrival += 1
    return labels


def flooded(height: np.ndarray, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Flood an image by the kernel, which wants a frame around it."""
    framed = np.pad(np.where(mask, seeds, SEA).astype(np.int32), 1, constant_values=SEA)
    flood(runs_of(mask)[0], np.pad(height, 1), framed, work_for(framed))
    return np.where(mask, framed[1:-1, 1:-1], 0)


def label_with_scipy(
    foreground: np.ndarray, height: np.ndarray, rule: InteriorBorder
) -> np.ndarray:
    """Tell cells apart by scipy's components and the heap; numbered by their first pixels."""
    inside = foreground & (height >= round(rule.seed_threshold * 255))
    seeds, count = ndimage.label(inside)
    seeds[(np.bincount(seeds.ravel(), minlength=count + 1) < rule.min_seed_px)[seeds]] = 0
    labels = flood_with_a_heap(255 - height, foreground, seeds)
    labels += np.where(labels == 0, ndimage.label(foreground & (labels == 0))[0] + count, 0) * (
        foreground & (labels == 0)
    )
    labels[(np.bincount(labels.ravel()) < rule.min_area_px)[labels]] = 0
    names = [name for name in dict.fromkeys(labels.ravel().tolist()) if name]
    return sum(((labels == name) * (i + 1) for i, name in enumerate(names)), np.zeros_like(labels))


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([0.3, 0.6, 0.95]),
)
@settings(max_examples=80, deadline=None)
def test_cells_equal_those_told_apart_by_scipy(
    seed: int, hw: tuple[int, int], density: float
) -> None:
    rng = np.random.default_rng(seed)
    foreground, height = rng.random(hw) < density, rng.integers(0, 256, hw).astype(np.uint8)
    rule = RULE.model_copy(update={"min_seed_px": 2, "min_area_px": 2})
    labels, first = label_cells(foreground, height, rule)
    np.testing.assert_array_equal(labels, label_with_scipy(foreground, height, rule))
    where, at = np.unique(labels, return_index=True)
    np.testing.assert_array_equal(first, at[where > 0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.integers(1, 24))
@settings(max_examples=60, deadline=None)
def test_the_flood_equals_its_heap_twin(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    elevation = rng.integers(0, 256, (height, width)).astype(np.uint8)
    mask = rng.random((height, width)) < 0.8
    labels = (rng.integers(1, 9, (height, width)) * (rng.random((height, width)) < 0.1)).astype(
        np.uint32
    )
    labels *= mask
    expected = flood_with_a_heap(elevation, mask, labels)
    np.testing.assert_array_equal(flooded(255 - elevation, mask, labels), expected)


def test_the_flood_equals_scikit_image_where_no_pixel_is_tied() -> None:
    segmentation = pytest.importorskip("skimage.segmentation")
    elevation = np.abs(np.arange(40) - 20).astype(np.uint8)[None].repeat(5, 0) * 5
    seeds = np.zeros((5, 40), np.uint32)
    seeds[2, 3], seeds[2, 36] = 1, 2
    mask = np.ones((5, 40), bool)
    expected = segmentation.watershed(255 - elevation, seeds.astype(int), mask=mask)
    agree = (flooded(elevation, mask, seeds) == expected).mean()
    assert agree > 0.97  # the valley line itself may go either way


def test_touching_nuclei_get_two_labels_that_cover_the_foreground() -> None:
    probabilities = two_touching_discs()
    labels = instances_from_probabilities(probabilities, RULE)
    assert labels.max() == 2
    np.testing.assert_array_equal(labels > 0, probabilities[..., 0] < 0.5)
    assert abs(np.sum(labels == 1) - np.sum(labels == 2)) < 20


def test_a_nucleus_too_thin_for_an_interior_is_kept() -> None:
    probabilities = np.zeros((10, 10, 3), np.float32)
    probabilities[..., 0] = 1
    probabilities[4:6, 2:8] = (0, 0.2, 0.8)
    assert instances_from_probabilities(probabilities, RULE).max() == 1


def test_an_empty_image_has_no_cells() -> None:
    probabilities = np.zeros((7, 5, 3), np.float32)
    probabilities[..., 0] = 1
    labels = instances_from_probabilities(probabilities, RULE)
    assert labels.shape == (7, 5)
    assert labels.max() == 0


def seeded(
    foreground: np.ndarray, height: np.ndarray, level: int, depth: int, min_px: int
) -> tuple[int, np.ndarray]:
    """Return the number of seeds in all of the foreground at once, and its frame."""
    framed = np.full((foreground.shape[0] + 2, foreground.shape[1] + 2), SEA, np.int32)
    runs, heights = runs_of(foreground)[0], np.pad(height, 1)
    count = mark_seeds(runs, heights, level, depth, min_px, framed, work_for(framed))
    return count, framed[1:-1, 1:-1]


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.integers(1, 120),
)
@settings(max_examples=80, deadline=None)
def test_there_are_as_many_seeds_as_maxima_of_that_depth(
    seed: int, hw: tuple[int, int], depth: int
) -> None:
    rng = np.random.default_rng(seed)
    foreground = rng.random(hw) < 0.9
    height = cv2.GaussianBlur(rng.integers(0, 256, hw).astype(np.uint8), (0, 0), 1.0)
    height = height.reshape(hw)
    count, labels = seeded(foreground, height, 60, depth, 0)
    # Far below the lowest seed, so that pieces apart stay apart; a maximum counts from h + 1 on.
    relief = np.where(foreground & (height >= 60), height.astype(int) + 1000, 0)
    lowered = np.maximum(relief - (depth - 1), 0)
    filled = morphology.reconstruction(lowered, relief, footprint=CROSS).astype(int)
    peaks = morphology.local_maxima(np.pad(filled, 1), connectivity=1)
    assert count == ndimage.label(peaks)[1]
    np.testing.assert_array_equal(labels == SEA, ~foreground)
    np.testing.assert_array_equal(labels > 0, relief > 0)


def test_nuclei_whose_interiors_run_together_part_at_the_pass() -> None:
    probabilities = two_touching_discs()
    y, x = np.mgrid[:32, :48]
    near = np.minimum(np.hypot(y - 16, x - 15), np.hypot(y - 16, x - 32))
    probabilities[..., 1] = np.clip(1 - near / 14, 0, 1) * (near < 9)  # 0.4 at the contact
    low = RULE.model_copy(update={"seed_threshold": 0.35})
    assert instances_from_probabilities(probabilities, low).max() == 1
    parted = low.model_copy(update={"seed_depth": 0.2})
    assert instances_from_probabilities(probabilities, parted).max() == 2


def test_seeds_outside_the_foreground_are_ignored() -> None:
    count, labels = seeded(np.zeros((4, 4), bool), np.full((4, 4), 255, np.uint8), 128, 256, 0)
    assert count == 0
    assert (labels == SEA).all()


def test_pieces_outside_the_box_are_left_out() -> None:
    foreground = np.zeros((8, 12), bool)
    foreground[1:4, 1:5] = foreground[1:4, 7:11] = foreground[6, 1:5] = True
    cells = part_cells(foreground, foreground * np.uint8(255), RULE, box=(3, 4, 6, 7))
    expected = np.zeros((8, 12), int)
    expected[1:4, 1:5] = 1
    np.testing.assert_array_equal(cells.painted((8, 12)), expected)
    assert cells.first(12).tolist() == [13]


def test_specks_of_interior_do_not_split_a_nucleus() -> None:
    probabilities = two_touching_discs()
    probabilities[16, 9:22, 1] = 0.1  # a scratch through the left interior leaves two halves
    speckled = probabilities.copy()
    speckled[10, 15], speckled[10, 16] = (0, 0.1, 0.9), (0, 0.1, 0.9)
    assert instances_from_probabilities(speckled, RULE).max() > 2
    assert instances_from_probabilities(speckled, SMOOTHED).max() == 2


def test_seeds_below_the_smallest_size_are_no_seeds() -> None:
    height = np.zeros((6, 12), np.uint8)
    height[1:5, 1:5] = height[3, 7] = height[2:4, 10] = 255
    foreground = np.ones((6, 12), bool)
    assert seeded(foreground, height, 128, 256, 1)[0] == 3
    count, labels = seeded(foreground, height, 128, 256, 2)
    assert count == 2
    assert (labels[1, 1], labels[3, 7], labels[2, 10]) == (1, 0, 2)


def test_a_piece_with_one_seed_is_one_cell_as_it_is_when_flooded() -> None:
    foreground = np.zeros((9, 9), bool)
    foreground[1:8, 1:8] = True
    height = np.zeros((9, 9), np.uint8)
    height[2:4, 2:4] = 255
    seeds = foreground * (height > 0)
    expected = flooded(height, foreground, seeds)
    np.testing.assert_array_equal(label_cells(foreground, height, RULE)[0], expected)


@pytest.mark.parametrize(("min_sure", "expected"), [(0.0, 2), (0.5, 2), (0.51, 1)])
def test_a_cell_that_is_faint_throughout_is_none(min_sure: float, expected: int) -> None:
    probabilities = np.zeros((10, 24, 3), np.float32)
    probabilities[..., 0] = 1
    probabilities[2:8, 2:10] = (0.02, 0.98, 0)
    probabilities[2:8, 14:22] = (0.3, 0.7, 0)
    probabilities[2:8, 14:18] = (0.1, 0.9, 0)  # half of it reaches 0.9
    rule = RULE.model_copy(update={"sure_probability": 0.9, "min_sure": min_sure})
    assert instances_from_probabilities(probabilities, rule).max() == expected
