"""The resampling kernel against the same sums written in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellseg.runtime.kernels.resample import resample
from cellseg.runtime.view.working import axis_weights


def resample_twin(
    source: NDArray[np.uint8],
    y_first: NDArray[Any],
    y_weights: NDArray[Any],
    x_first: NDArray[Any],
    x_weights: NDArray[Any],
) -> NDArray[np.uint8]:
    rows = y_first[:, None] + np.arange(y_weights.shape[1])
    down = (y_weights[..., None, None].astype(np.int64) * source[rows]).sum(1)
    down = (down + 32) >> 6
    cols = x_first[:, None] + np.arange(x_weights.shape[1])
    across = (x_weights[None, ..., None].astype(np.int64) * down[:, cols]).sum(2)
    return ((across + (1 << 21)) >> 22).astype(np.uint8)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.25, 9), st.integers(0, 2**32 - 1))
def test_kernel_is_its_numpy_twin(height: int, width: int, scale: float, seed: int) -> None:
    source = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    rows = axis_weights(0, max(1, int(height / scale)), scale, height)
    cols = axis_weights(0, max(1, int(width / scale)), scale, width)
    out = np.empty((len(rows[0]), len(cols[0]), 3), np.uint8)
    resample(source, *rows, *cols, out)
    assert np.array_equal(out, resample_twin(source, *rows, *cols))


def test_white_stays_white_and_nothing_overflows() -> None:
    source = np.full((50, 60, 3), 255, np.uint8)
    rows, cols = axis_weights(0, 16, 3.1, 50), axis_weights(0, 19, 3.1, 60)
    out = np.empty((16, 19, 3), np.uint8)
    resample(source, *rows, *cols, out)
    assert (out == 255).all()
