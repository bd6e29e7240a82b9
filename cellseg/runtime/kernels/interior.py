"""What is kept of a network's output to tell cells apart later: one byte a pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["count_sure", "keep_interior", "keep_row"]

_ROUNDING = np.float32(12582912.0)  # 1.5 * 2**23: adding it leaves no fraction, ties to even


@kernel
def keep_interior(
    probabilities: NDArray[np.float32],
    y0: int,
    x0: int,
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
    y0, x0 : int
        Where the kept part begins.
    channel : int
        The interior.
    sure : float
        Probability of foreground from which a pixel is sure.
    marks : bool
        Whether the last bit says so: 1 where it is sure. Else it is part of the interior.
    out : uint8, shape (kh, kw)
        Written.
    """
    background = np.empty(out.shape[1], np.float32)
    inside = np.empty(out.shape[1], np.float32)
    for y in range(out.shape[0]):
        # Gathered first, the rest is vector instructions: half the time.
        for x in range(background.size):
            background[x] = probabilities[y0 + y, x0 + x, 0]
            inside[x] = probabilities[y0 + y, x0 + x, channel]
        keep_row(inside, background, sure, marks, out[y])


@kernel
def keep_row(
    inside: NDArray[np.float32],
    background: NDArray[np.float32],
    sure: float,
    marks: bool,
    out: NDArray[np.uint8],
) -> None:
    """Write a row of what `keep_interior` keeps, from its two channels; all of shape (w,)."""
    for x in range(out.size):
        clipped = min(max(inside[x], np.float32(0)), np.float32(1))
        out[x] = np.uint8(np.int32(clipped * np.float32(255) + _ROUNDING - _ROUNDING))
    if marks:
        least = np.float32(sure)
        for x in range(out.size):
            is_sure = np.uint8(np.float32(1) - background[x] >= least)
            out[x] = np.uint8((out[x] & np.uint8(254)) | is_sure)


@kernel
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
