"""Density: cells per mm² where they are, and none lost at the border."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.pictures.density import (
    density_map,
    draw_density,
    framed_density,
    part_within,
)
from cellseg.runtime.pictures.marks import nice_number
from cellseg.runtime.shapes.geojson import Region
from cellseg.runtime.shapes.roi import Roi
from cellseg.runtime.tissue.mask import TissueMask

if TYPE_CHECKING:
    from numpy.typing import NDArray


def whole(*hw: int) -> NDArray[np.float32]:
    return np.ones(hw, np.float32)


def test_an_even_field_has_one_density_up_to_its_border() -> None:
    y, x = (each.ravel() for each in np.mgrid[5:1000:10, 5:2000:10])
    found = density_map((x, y), (1000, 2000), whole(250, 500), (0.5, 0.5))
    expected = x.size / (1000 * 2000 * 0.25e-6)
    assert found.unit == "cells/mm²"
    assert found.values == pytest.approx(np.full((250, 500), expected), rel=0.05)


def test_an_even_field_has_one_density_up_to_the_edges_of_regions() -> None:
    y, x = (each.ravel() for each in np.mgrid[5:1000:10, 5:2000:10])
    ring = np.array([(300.0, 200.0), (1700.0, 210.0), (900.0, 800.0)])
    roi = Roi.of([Region(None, ((ring,),))], 2.0, (500, 1000), "r")
    mask = TissueMask(np.arange(100)[:, None] < np.full(100, 60), (5.0, 10.0), "bright")
    looked_at = part_within((mask, roi), (500, 1000), (250, 500))
    kept = roi.has(y / 2, x / 2) & (y < 600)
    found = density_map((x[kept], y[kept]), (1000, 2000), looked_at, (0.5, 0.5))
    expected = 1 / (100 * 0.25e-6)
    assert found.values[looked_at == 1] == pytest.approx(expected, rel=0.15)
    assert not found.values[looked_at == 0].any()
    share = looked_at.mean() * 1000 * 2000
    assert share == pytest.approx(kept.sum() * 100, rel=0.02)


def test_a_lone_cell_is_one_cell_and_lies_where_it_is() -> None:
    found = density_map(
        (np.array([700.0]), np.array([300.0])), (1000, 1000), whole(500, 500), (0.5, 0.5)
    )
    assert np.unravel_index(found.values.argmax(), (500, 500)) == (150, 350)
    px_mm2 = 4 * 0.25e-6
    assert found.values.sum() * px_mm2 == pytest.approx(1, rel=1e-3)


def test_pixels_that_are_not_square_count_by_their_area() -> None:
    y, x = (each.ravel() for each in np.mgrid[2:400:4, 2:400:4])
    found = density_map((x, y), (400, 400), whole(100, 100), (0.25, 1.0))
    assert float(np.median(found.values)) == pytest.approx(1e6 / 16 / 0.25, rel=0.02)


def test_without_a_pixel_size_density_is_by_pixels() -> None:
    y, x = (each.ravel() for each in np.mgrid[5:500:10, 5:500:10])
    found = density_map((x, y), (500, 500), whole(250, 250), None)
    assert (found.unit, found.px_um) == ("cells/Mpx", None)
    assert float(np.median(found.values)) == pytest.approx(1e4, rel=0.05)


@given(st.floats(1e-6, 1e9))
@settings(max_examples=60, deadline=None)
def test_a_nice_number_is_not_below_and_not_far_above(value: float) -> None:
    assert value * (1 - 1e-6) <= nice_number(value) <= value * 1.6


@pytest.mark.parametrize("cells", [0, 1])
@pytest.mark.parametrize("hw", [(1, 1), (3, 400), (300, 200)])
def test_pictures_of_any_size_are_drawn(cells: int, hw: tuple[int, int]) -> None:
    at = np.full(cells, 0.5)
    density = density_map((at, at), hw, whole(*hw), (0.5, 0.5))
    ground = np.full((*hw, 3), 200, np.uint8)
    assert draw_density(density, ground).shape == (*hw, 3)
    framed = framed_density(density, ground)
    assert framed.shape[0] >= hw[0]
    assert framed.shape[1] > hw[1]


def test_where_there_are_no_cells_the_slide_shows_in_grey() -> None:
    at = np.full(50, 20.0)
    density = density_map((at, at), (400, 400), whole(400, 400), (0.5, 0.5))
    drawn = draw_density(density, np.full((400, 400, 3), (200, 100, 50), np.uint8))
    assert np.ptp(drawn[-1, -1]) == 0
    assert np.ptp(drawn[20, 20]) > 50
