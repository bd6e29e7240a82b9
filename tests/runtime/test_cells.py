"""Touching cells part; the flood equals a plain Python priority queue and scikit-image."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.cells import (
    find_seeds,
    instances_from_probabilities,
    renumber,
)
from cellseg.runtime.kernels.watershed import flood
from cellseg.runtime.manifest import InteriorBorder

RULE = InteriorBorder(interior_channel=1, seed_threshold=0.5, min_area_px=4)
SMOOTHED = RULE.model_copy(update={"seed_blur_px": 1.5, "min_seed_px": 12})


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


@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.integers(1, 24))
@settings(max_examples=60, deadline=None)
def test_the_flood_equals_its_heap_twin(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    elevation = rng.integers(0, 256, (height, width)).astype(np.uint8)
    mask = rng.random((height, width)) < 0.8
    labels = (rng.integers(1, 9, (height, width)) * (rng.random((height, width)) < 0.1)).astype(
        np.uint32
    )
    expected = flood_with_a_heap(elevation, mask, labels)
    flood(elevation, mask, labels)
    np.testing.assert_array_equal(labels, expected)


def test_the_flood_equals_scikit_image_where_no_pixel_is_tied() -> None:
    segmentation = pytest.importorskip("skimage.segmentation")
    elevation = np.abs(np.arange(40) - 20).astype(np.uint8)[None].repeat(5, 0) * 5
    seeds = np.zeros((5, 40), np.uint32)
    seeds[2, 3], seeds[2, 36] = 1, 2
    mask = np.ones((5, 40), bool)
    expected = segmentation.watershed(255 - elevation, seeds.astype(int), mask=mask)
    flood(255 - elevation, mask, seeds)
    agree = (seeds == expected).mean()
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


def test_seeds_outside_the_foreground_are_ignored() -> None:
    seeds = find_seeds(np.zeros((4, 4), bool), np.ones((4, 4), bool))
    assert seeds.max() == 0


def test_small_cells_are_dropped_and_ids_follow_the_raster() -> None:
    labels = np.array([[9, 9, 0, 4], [9, 0, 7, 7]], np.uint32)
    all_kept, without_specks = labels.copy(), labels.copy()
    np.testing.assert_array_equal(renumber(all_kept), [0, 3, 6])
    np.testing.assert_array_equal(all_kept, [[1, 1, 0, 2], [1, 0, 3, 3]])
    np.testing.assert_array_equal(renumber(without_specks, min_area_px=2), [0, 6])
    np.testing.assert_array_equal(without_specks, [[1, 1, 0, 0], [1, 0, 2, 2]])


def test_specks_of_interior_do_not_split_a_nucleus() -> None:
    probabilities = two_touching_discs()
    probabilities[16, 9:22, 1] = 0.1  # a scratch through the left interior leaves two halves
    speckled = probabilities.copy()
    speckled[10, 15], speckled[10, 16] = (0, 0.1, 0.9), (0, 0.1, 0.9)
    assert instances_from_probabilities(speckled, RULE).max() > 2
    assert instances_from_probabilities(speckled, SMOOTHED).max() == 2


def test_seeds_below_the_smallest_size_are_no_seeds() -> None:
    inside = np.zeros((6, 9), bool)
    inside[1:5, 1:5], inside[3, 7] = True, True
    seeds = find_seeds(np.ones((6, 9), bool), inside, min_seed_px=2)
    assert seeds.max() == 1
    assert seeds[3, 7] == 0
