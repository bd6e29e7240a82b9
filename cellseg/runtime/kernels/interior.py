"""What is kept of a network's output to tell cells apart later: one byte a pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["count_sure", "keep_interior"]


@njit(nogil=True, cache=True)
def keep_interior(
    probabilities: NDArray[np.float32],
    channel: int,
    sure: float,
    marks: bool,
    out: NDArray[np.uint8],
) -> None:
    """Write the interior channel in 256 steps; its last bit may say where foreground is sure.

    Parameters
    ----------
    probabilities : float32, shape (h, w, C)
        Channel 0 is background.
    channel : int
        The interior.
    sure : float32
        Probability of foreground from which a pixel is sure.
    marks : bool
        Whether the last bit says so: 1 where it is sure. Else it is part of the interior.
    out : uint8, shape (h, w)
        Written.
    """
    height, width = out.shape
    for y in range(height):
        for x in range(width):
            inside = min(max(probabilities[y, x, channel], np.float32(0)), np.float32(1))
            step = np.uint8(np.rint(inside * np.float32(255)))
            if marks:
                is_sure = np.float32(1) - probabilities[y, x, 0] >= sure
                step = np.uint8(step & 254 | is_sure)
            out[y, x] = step


@njit(nogil=True, cache=True)
def count_sure(
    runs: NDArray[np.int32],
    starts: NDArray[np.int32],
    interior: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> None:
    """Count the sure pixels of each cell.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        y, first column, and the column after the last, sorted by cell.
    starts : int32, shape (n + 1,)
        Where each cell begins in ``runs``, and the end of the last.
    interior : uint8, shape (H, W)
        As `keep_interior` writes it, with marks.
    counts : int64, shape (n,)
        Written.
    """
    for cell in range(counts.shape[0]):
        found = 0
        for run in range(starts[cell], starts[cell + 1]):
            row = interior[runs[run, 0]]
            for x in range(runs[run, 1], runs[run, 2]):
                found += row[x] & 1
        counts[cell] = found
