"""The lens kernel against the seeds' formula in NumPy, lens after lens."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg.train.augment.warp import _lens_ratios as lens_ratios
from cellseg.train.kernels.lens import bend


def tables(amount: float, count: int) -> np.ndarray:
    return np.tile(lens_ratios(amount), (count, 1)).astype(np.float32)


def twin(x: np.ndarray, y: np.ndarray, cx: float, cy: float, radius: float, amount: float) -> None:
    """``source = centre + delta * sin(pi d / 2R) ** amount`` inside R, else itself."""
    dx, dy = x - cx, y - cy
    d = np.hypot(dx, dy)
    inside = (d < radius) & (d > 0)
    ratio = np.sin(np.pi * d[inside] / (2 * radius)) ** amount
    x[inside], y[inside] = cx + dx[inside] * ratio, cy + dy[inside] * ratio


@pytest.mark.parametrize("amount", [0.3, -0.3, 0.5])
def test_positions_equal_the_formula(amount: float) -> None:
    y, x = (axis.astype(np.float32) for axis in np.mgrid[:48, :64])
    centers = np.array([(20, 20), (40, 30)], np.float32)
    expected_x, expected_y = x.astype(float), y.astype(float)
    for cx, cy in centers[::-1]:  # the seeds warp the warped image: the last lens comes first
        twin(expected_x, expected_y, cx, cy, 18.0, amount)
    bend(x, y, centers, 18.0, tables(amount, 2))
    np.testing.assert_allclose(x, expected_x, atol=5e-3)
    np.testing.assert_allclose(y, expected_y, atol=5e-3)


def test_outside_the_radius_nothing_moves() -> None:
    y, x = (axis.astype(np.float32) for axis in np.mgrid[:32, :32])
    before = x.copy()
    bend(x, y, np.array([(16, 16)], np.float32), 5.0, tables(0.5, 1))
    far = np.hypot(*(np.mgrid[:32, :32] - 16)) >= 5
    np.testing.assert_array_equal(x[far], before[far])
    assert (x[~far] != before[~far]).any()
