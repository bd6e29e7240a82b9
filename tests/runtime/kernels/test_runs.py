"""Runs of foreground: those of a plain scan, in the pieces that scipy finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellseg.runtime.kernels.runs import find_cell_runs, pieces_in, sort_by_piece
from tests.cell_pictures import runs_of

SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))


def scanned(labels: np.ndarray) -> list[tuple[int, int, int]]:
    """Find runs of equal labels above 0 by a plain scan."""
    found = []
    for y, row in enumerate(labels.tolist()):
        starts = [x for x in range(len(row)) if x == 0 or row[x] != row[x - 1]]
        ends = [*starts[1:], len(row)]
        found += [(y, a, b) for a, b in zip(starts, ends, strict=True) if row[a]]
    return found


@given(st.integers(0, 2**32 - 1), SIZES, st.sampled_from([0.2, 0.6, 0.9]))
@settings(max_examples=60, deadline=None)
def test_runs_and_pieces_are_those_of_a_plain_scan(
    seed: int, hw: tuple[int, int], density: float
) -> None:
    foreground = np.random.default_rng(seed).random(hw) < density
    runs, piece = runs_of(foreground)
    assert [tuple(run) for run in runs.tolist()] == scanned(foreground)
    pieces = ndimage.label(foreground)[0]  # numbered by their first pixels, as ours are
    np.testing.assert_array_equal(piece, pieces[runs[:, 0], runs[:, 1]] - 1)


@given(st.integers(0, 2**32 - 1), SIZES)
@settings(max_examples=30, deadline=None)
def test_runs_of_a_piece_lie_together_in_raster_order(seed: int, hw: tuple[int, int]) -> None:
    foreground = np.random.default_rng(seed).random(hw) < 0.5
    _, piece = runs_of(foreground)
    count = int(piece.max(initial=-1)) + 1
    starts, order = np.empty(count + 1, np.int32), np.empty(len(piece), np.int32)
    sort_by_piece(piece, starts, order)
    np.testing.assert_array_equal(order, np.argsort(piece, kind="stable"))
    np.testing.assert_array_equal(starts, np.searchsorted(np.sort(piece), np.arange(count + 1)))


@given(st.integers(0, 2**32 - 1), SIZES)
@settings(max_examples=30, deadline=None)
def test_pieces_reach_into_a_box_by_a_pixel(seed: int, hw: tuple[int, int]) -> None:
    foreground = np.random.default_rng(seed).random(hw) < 0.5
    runs, piece = runs_of(foreground)
    order = np.argsort(piece, kind="stable")
    starts = np.searchsorted(np.sort(piece), np.arange(piece.max(initial=-1) + 2)).astype(np.int32)
    box = (hw[0] // 3, hw[1] // 3, hw[0] // 3 + 1, hw[1])
    is_in = np.empty(len(starts) - 1, bool)
    around = pieces_in(runs[order], starts, box, is_in)
    pieces = ndimage.label(foreground)[0]
    inside = np.unique(pieces[box[0] : box[2], box[1] : box[3]])
    np.testing.assert_array_equal(np.flatnonzero(is_in) + 1, inside[inside > 0])
    mask = np.isin(pieces, inside[inside > 0])
    mask[box[0] : box[2], box[1] : box[3]] = True
    y, x = np.nonzero(mask)
    assert around == (y.min(), x.min(), y.max() + 1, x.max() + 1)


@given(st.integers(0, 2**32 - 1), SIZES)
@settings(max_examples=30, deadline=None)
def test_runs_of_a_label_map_are_those_of_a_plain_scan(seed: int, hw: tuple[int, int]) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, hw).astype(np.uint32)
    runs, cell = np.empty((labels.size, 3), np.int32), np.empty(labels.size, np.int32)
    count = find_cell_runs(labels, runs, cell)
    assert [tuple(run) for run in runs[:count].tolist()] == scanned(labels)
    np.testing.assert_array_equal(cell[:count] + 1, labels[runs[:count, 0], runs[:count, 1]])
