"""Weighted sums of overlapping tiles, in integers: whatever order tiles come in, one result.

A probability counts in steps of 1/65535, a weight is a whole number, and a sum of their products
fits into 32 bits as long as the weights over a pixel add up to at most 65535. Integers add up to
the same in any order, which floats do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["STEPS", "add_weighted", "divide_by_weights"]

STEPS = 65535
"""Steps of a probability, and the most that the weights over a pixel may add up to."""


@kernel
def add_weighted(
    channels: NDArray[np.float32],
    tile_yx: tuple[int, int],
    row_weights: NDArray[np.uint32],
    column_weights: NDArray[np.uint32],
    sums: NDArray[np.uint32],
    weights: NDArray[np.uint16],
    cell_yx: tuple[int, int],
) -> None:
    """Add what a tile says of a cell, in place.

    Parameters
    ----------
    channels : float32, shape (h, w, C)
        One tile's output. What is not above 0 (or not a number) counts as 0, above 1 as 1.
    tile_yx : (int, int)
        Where the tile lies, working-level pixels.
    row_weights, column_weights : uint32, shapes (h,) and (w,)
        A pixel weighs the product of the two; at least 1 each.
    sums : uint32, shape (ch, cw, C)
        Sum of weight times probability, in `STEPS`; written.
    weights : uint16, shape (ch, cw)
        Sum of weights; written.
    cell_yx : (int, int)
        Where the cell lies. Only what tile and cell share is touched.
    """
    down, right = cell_yx[0] - tile_yx[0], cell_yx[1] - tile_yx[1]
    x_start, x_stop = max(0, -right), min(sums.shape[1], channels.shape[1] - right)
    one, half, steps = np.float32(1), np.float32(0.5), np.float32(STEPS)
    for y in range(max(0, -down), min(sums.shape[0], channels.shape[0] - down)):
        row_weight = row_weights[y + down]
        for x in range(x_start, x_stop):
            weight = row_weight * column_weights[x + right]
            weights[y, x] += weight
            for channel in range(sums.shape[2]):
                sure = channels[y + down, x + right, channel]
                if sure > 0:  # false for what is not a number
                    sums[y, x, channel] += weight * np.uint32(min(sure, one) * steps + half)


@kernel
def divide_by_weights(
    sums: NDArray[np.uint32], weights: NDArray[np.uint16], out: NDArray[np.float32]
) -> None:
    """Write the weighted mean of each pixel: the sums over the very weights that went into them.

    Parameters
    ----------
    sums, weights
        From `add_weighted`; no weight is 0.
    out : float32, shape (ch, cw, C)
        Probabilities; written.
    """
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            whole = np.float64(weights[y, x]) * STEPS
            for channel in range(sums.shape[2]):
                out[y, x, channel] = np.float64(sums[y, x, channel]) / whole
