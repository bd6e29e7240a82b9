"""Weighted sums: the kernels against their NumPy twins, and their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.kernels.blend import STEPS, add_weighted, divide_by_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray


def add_twin(
    channels: NDArray[np.float32],
    tile_yx: tuple[int, int],
    outer: NDArray[np.uint32],
    sums: NDArray[np.uint32],
    weights: NDArray[np.uint16],
    cell_yx: tuple[int, int],
) -> None:
    """Paste the tile into a canvas around everything, then cut the cell out of it."""
    side = 200
    steps = (np.clip(channels, 0, 1) * np.float32(STEPS) + np.float32(0.5)).astype(np.uint32)
    canvas = np.zeros((side, side, channels.shape[2]), np.uint32)
    weight = np.zeros((side, side), np.uint32)
    (ty, tx), (cy, cx), (h, w) = tile_yx, cell_yx, outer.shape
    canvas[ty : ty + h, tx : tx + w] = steps * outer[..., None]
    weight[ty : ty + h, tx : tx + w] = outer
    sums += canvas[cy : cy + sums.shape[0], cx : cx + sums.shape[1]]
    weights += weight[cy : cy + sums.shape[0], cx : cx + sums.shape[1]].astype(np.uint16)


places = st.tuples(st.integers(20, 60), st.integers(20, 60))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.lists(places, min_size=1, max_size=4), places)
def test_summing_equals_numpy(
    seed: int, tiles: list[tuple[int, int]], cell_yx: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = (rng.integers(1, 64, side).astype(np.uint32) for side in (13, 17))
    sums, weights = np.zeros((9, 8, 3), np.uint32), np.zeros((9, 8), np.uint16)
    expected, expected_weights = sums.copy(), weights.copy()
    for tile_yx in tiles:
        channels = rng.normal(0.5, 0.5, (13, 17, 3)).astype(np.float32)
        add_weighted(channels, tile_yx, rows, columns, sums, weights, cell_yx)
        add_twin(channels, tile_yx, np.outer(rows, columns), expected, expected_weights, cell_yx)
    np.testing.assert_array_equal(sums, expected)
    np.testing.assert_array_equal(weights, expected_weights)


def test_dividing_equals_numpy() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(1, STEPS, (7, 5)).astype(np.uint16)
    sums = (rng.random((7, 5, 2)) * weights[..., None] * float(STEPS)).astype(np.uint32)
    out = np.empty((7, 5, 2), np.float32)
    divide_by_weights(sums, weights, out)
    expected = sums / (weights[..., None].astype(float) * STEPS)
    np.testing.assert_array_equal(out, expected.astype(np.float32))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.25, 1 / 3])
def test_the_largest_sum_still_fits(value: float) -> None:
    ones = np.full(1, 255, np.uint32)
    sums, weights = np.zeros((1, 1, 1), np.uint32), np.zeros((1, 1), np.uint16)
    add_weighted(np.full((1, 1, 1), value, np.float32), (0, 0), ones, ones, sums, weights, (0, 0))
    out = np.empty((1, 1, 1), np.float32)
    divide_by_weights(sums, weights, out)
    assert out.item() == pytest.approx(value, abs=0.5 / STEPS)


def test_what_is_no_probability_counts_as_the_nearest_one() -> None:
    one = np.ones(4, np.uint32)
    tile = np.array([[-3.0, np.nan, 7.0, np.inf]], np.float32)[..., None]
    sums, weights = np.zeros((1, 4, 1), np.uint32), np.zeros((1, 4), np.uint16)
    add_weighted(tile, (0, 0), one[:1], one, sums, weights, (0, 0))
    assert sums.ravel().tolist() == [0, 0, STEPS, STEPS]
    assert weights.ravel().tolist() == [1, 1, 1, 1]
