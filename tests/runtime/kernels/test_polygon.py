"""Polygon kernels against their NumPy twins, and windows against the whole."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellseg.runtime.kernels.polygon import fill_even_odd, mark_touched

COORDINATE = st.one_of(st.integers(-6, 46).map(float), st.floats(-6, 46))
RING = st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=12)


def edges_of(points: list[tuple[float, float]]) -> NDArray[np.float64]:
    """Edges of a closed ring, upper end first."""
    pairs = zip(points, points[1:] + points[:1], strict=True)
    ordered = [(a, b) if a[1] <= b[1] else (b, a) for a, b in pairs]
    return np.array([(*a, *b) for a, b in ordered], np.float64)


def fill_twin(
    edges: NDArray[np.float64], ys: NDArray[np.float64], xs: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Count for every sample the crossings that lie to its left, or on it."""
    x0, y0, x1, y1 = (column[:, None] for column in edges.T)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        crossing = x0 + (ys - y0) * ((x1 - x0) / (y1 - y0))
    on_line = (y0 <= ys) & (ys < y1)
    left = on_line[:, :, None] & (crossing[:, :, None] <= xs)
    return np.asarray(left.sum(axis=0) % 2 == 1)


def filled(
    edges: NDArray[np.float64], ys: NDArray[np.float64], xs: NDArray[np.float64]
) -> NDArray[np.bool_]:
    out = np.full((len(ys), len(xs)), 7, np.uint8)
    fill_even_odd(edges, ys, xs, out)
    assert set(np.unique(out)) <= {0, 1}
    return out.astype(bool)


@settings(deadline=None)
@example([(0.0, 0.0), (0.0, 0.0), (1.0, 5e-324)], 0, 0, 1, 1)  # a slope without end
@given(RING, st.integers(0, 30), st.integers(0, 30), st.integers(1, 40), st.integers(1, 40))
def test_filling_equals_numpy_in_any_window(
    points: list[tuple[float, float]], y0: int, x0: int, h: int, w: int
) -> None:
    edges = edges_of(points)
    ys, xs = np.arange(y0, y0 + h) + 0.5, np.arange(x0, x0 + w) + 0.5
    np.testing.assert_array_equal(filled(edges, ys, xs), fill_twin(edges, ys, xs))


@settings(deadline=None)
@given(RING, st.integers(1, 39), st.integers(1, 39))
def test_four_windows_hold_what_one_does(points: list[tuple[float, float]], y: int, x: int) -> None:
    edges, centres = edges_of(points), np.arange(40) + 0.5
    whole = filled(edges, centres, centres)
    parts = [
        [filled(edges, ys, xs) for xs in (centres[:x], centres[x:])]
        for ys in (centres[:y], centres[y:])
    ]
    np.testing.assert_array_equal(np.block(parts), whole)


def test_polygons_that_share_an_edge_share_no_pixel() -> None:
    rng = np.random.default_rng(0)
    centres = np.arange(30) + 0.5
    for _ in range(50):
        a, b = rng.random(2) * 30, rng.random(2) * 30
        left, right = (
            filled(edges_of([tuple(a), tuple(b), (x, b[1]), (x, a[1])]), centres, centres)
            for x in (-50.0, 80.0)
        )
        between = (min(a[1], b[1]) <= centres) & (centres < max(a[1], b[1]))
        np.testing.assert_array_equal(left ^ right, np.broadcast_to(between[:, None], left.shape))


@settings(deadline=None)
@given(
    RING,
    st.lists(st.integers(1, 39), max_size=5, unique=True).map(sorted),
    st.lists(st.integers(1, 39), max_size=5, unique=True).map(sorted),
)
def test_marked_cells_are_those_that_the_outline_runs_through(
    points: list[tuple[float, float]], rows: list[int], columns: list[int]
) -> None:
    edges = edges_of(points)
    y_edges, x_edges = np.array([0.0, *rows, 40.0]), np.array([0.0, *columns, 40.0])
    out = np.zeros((len(rows) + 1, len(columns) + 1), np.uint8)
    mark_touched(edges, y_edges, x_edges, out)
    along = np.linspace(0, 1, 501)[:, None, None]  # points on the edges lie in marked cells
    x, y = (edges[:, :2] + along * (edges[:, 2:] - edges[:, :2])).reshape(-1, 2).T
    safe = (
        (np.abs(x[:, None] - x_edges).min(axis=1) > 1e-6)
        & (np.abs(y[:, None] - y_edges).min(axis=1) > 1e-6)
        & (x > 0)
        & (x < 40)
        & (y > 0)
        & (y < 40)
    )
    found = np.searchsorted(y_edges, y[safe]) - 1, np.searchsorted(x_edges, x[safe]) - 1
    assert out[found].all()
    # And a cell that is not marked is inside or outside as a whole.
    centres = np.arange(40) + 0.5
    inside = fill_twin(edges, centres, centres)
    for row, column in zip(*np.nonzero(out == 0), strict=True):
        cell = inside[
            int(y_edges[row]) : int(y_edges[row + 1]),
            int(x_edges[column]) : int(x_edges[column + 1]),
        ]
        assert cell.all() or not cell.any()


def test_an_outline_beside_the_grid_marks_nothing() -> None:
    edges = edges_of([(-9.0, -9.0), (-5.0, 60.0), (-7.0, 20.0)])
    out = np.zeros((2, 2), np.uint8)
    mark_touched(edges, np.array([0.0, 10, 20]), np.array([0.0, 10, 20]), out)
    assert not out.any()
