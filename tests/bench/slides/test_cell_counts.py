"""Cells that a tiling loses or cuts in two are counted; specks are not."""

from __future__ import annotations

import numpy as np
from skimage.measure import label

from cellseg.bench.slides.cell_counts import count_cells


def field() -> np.ndarray:
    """Four cells of 20 x 20 px and a speck."""
    classes = np.zeros((100, 100), np.uint8)
    for y, x in ((10, 10), (10, 60), (60, 10), (60, 60)):
        classes[y : y + 20, x : x + 20] = 1
    classes[45:48, 45:48] = 1
    return classes


def test_the_same_map_loses_and_doubles_nothing() -> None:
    counts = count_cells(field(), field())
    assert (counts.cells, counts.lost, counts.doubled) == (4, 0, 0)
    assert label(field(), connectivity=2).max() == 5  # the speck is a piece, but no cell


def test_a_seam_through_a_cell_doubles_it_and_an_empty_place_loses_it() -> None:
    found = field()
    found[10:30, 20] = 0  # a seam
    found[60:80, 60:80] = 0  # gone
    found[60:80, 10:12] = 0  # shaved, still one
    counts = count_cells(found, field())
    assert (counts.cells, counts.lost, counts.doubled) == (4, 1, 1)


def test_a_crumb_beside_a_cell_is_no_second_cell() -> None:
    found = field()
    found[10:30, 28] = 0  # cuts off a strip of 20 of 400 px
    assert count_cells(found, field()).doubled == 0


def test_an_empty_map_loses_every_cell() -> None:
    assert count_cells(np.zeros_like(field()), field()).lost == 4
    assert count_cells(field(), np.zeros_like(field())).cells == 0
