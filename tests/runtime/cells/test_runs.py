"""Cells by their runs: in order, cropped, and painted, as their label map is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.cells.runs import CellRuns

SIZES = st.tuples(st.integers(1, 20), st.integers(1, 24))


def some_labels(seed: int, hw: tuple[int, int]) -> np.ndarray:
    """Cells in pieces, their numbers in no order and with gaps."""
    return np.random.default_rng(seed).choice([0, 0, 2, 3, 9, 11], hw).astype(np.uint32)


def in_raster_order(labels: np.ndarray) -> np.ndarray:
    """Give the cells of a map numbers in the order of their first pixels."""
    names = [name for name in dict.fromkeys(labels.ravel().tolist()) if name]
    numbers = np.zeros(12, np.uint32)
    numbers[names] = np.arange(1, len(names) + 1)
    return numbers[labels]


@given(st.integers(0, 2**32 - 1), SIZES)
@settings(max_examples=60, deadline=None)
def test_cells_of_a_map_paint_it_numbered_by_first_pixels(seed: int, hw: tuple[int, int]) -> None:
    labels = some_labels(seed, hw)
    cells, expected = CellRuns.of_labels(labels), in_raster_order(labels)
    np.testing.assert_array_equal(cells.painted(hw), expected)
    where, first = np.unique(expected, return_index=True)
    np.testing.assert_array_equal(cells.first(hw[1]), first[where > 0])


@given(st.integers(0, 2**32 - 1), SIZES)
@settings(max_examples=60, deadline=None)
def test_boxes_hold_each_cell(seed: int, hw: tuple[int, int]) -> None:
    labels = in_raster_order(some_labels(seed, hw))
    for number, box in enumerate(CellRuns.of_labels(labels).boxes, 1):
        y, x = np.nonzero(labels == number)
        assert box.tolist() == [y.min(), x.min(), y.max() + 1, x.max() + 1]


@given(st.integers(0, 2**32 - 1), SIZES, st.data())
@settings(max_examples=60, deadline=None)
def test_a_crop_paints_its_part_of_the_map(
    seed: int, hw: tuple[int, int], data: st.DataObject
) -> None:
    labels = in_raster_order(some_labels(seed, hw))
    y0, y1 = sorted(data.draw(st.tuples(*[st.integers(0, hw[0])] * 2)))
    x0, x1 = sorted(data.draw(st.tuples(*[st.integers(0, hw[1])] * 2)))
    part = CellRuns.of_labels(labels).cropped((y0, x0, y1, x1))
    expected = labels[y0:y1, x0:x1]
    np.testing.assert_array_equal(part.painted(expected.shape), expected)
    np.testing.assert_array_equal(
        np.flatnonzero(part.counts) + 1, np.unique(expected[expected > 0])
    )


def test_cells_that_are_taken_keep_their_runs_in_the_new_order() -> None:
    labels = in_raster_order(some_labels(5, (12, 14)))
    cells = CellRuns.of_labels(labels)
    taken = cells.taken(np.array([2, 0]))
    expected = np.array([0, 2, 0, 1, 0], np.uint32)[labels]
    np.testing.assert_array_equal(taken.painted(labels.shape), expected)


@pytest.mark.parametrize(
    ("least_px", "expected"), [(1, [[1, 1, 0, 2], [1, 0, 3, 3]]), (2, [[1, 1, 0, 0], [1, 0, 2, 2]])]
)
def test_small_cells_are_dropped_and_ids_follow_the_raster(
    least_px: int, expected: list[list[int]]
) -> None:
    runs = np.array([[0, 0, 2], [0, 3, 4], [1, 0, 1], [1, 2, 4]], np.int32)
    cells = CellRuns.sorted(runs, np.array([5, 2, 5, 0], np.int32), least_px)
    np.testing.assert_array_equal(cells.painted((2, 4)), expected)


def test_no_cells_paint_nothing() -> None:
    none = CellRuns.of_labels(np.zeros((3, 4), np.uint32))
    assert len(none) == len(CellRuns.none()) == 0
    assert not none.painted((3, 4)).any()
