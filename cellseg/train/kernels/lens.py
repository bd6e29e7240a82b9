"""Barrel and pincushion distortion of sampling positions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numba

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def bend(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    centers: NDArray[np.float32],
    radius: float,
    amounts: NDArray[np.float32],
) -> None:
    """Move sampling positions as lenses would, in place; the last lens is looked through first.

    Inside ``radius`` of a centre, with d the distance from it, a position becomes ``centre + delta
    * sin(pi d / (2 radius)) ** amount``: positive amounts bulge (barrel), negative ones pinch.

    Parameters
    ----------
    x, y : float32, shape (H, W)
        Where each output pixel is sampled from; written in place.
    centers : float32, shape (n, 2)
        Centres (x, y), px.
    radius : float
        Reach, px.
    amounts : float32, shape (n,)
        Exponent of each lens.
    """
    height, width = x.shape
    reach = radius * radius
    for row in range(height):
        for column in range(width):
            px, py = x[row, column], y[row, column]
            for lens in range(centers.shape[0] - 1, -1, -1):
                dx, dy = px - centers[lens, 0], py - centers[lens, 1]
                square = dx * dx + dy * dy
                if square >= reach or square == 0.0:
                    continue
                ratio = math.sin(math.pi * math.sqrt(square) / (2.0 * radius)) ** amounts[lens]
                px, py = centers[lens, 0] + dx * ratio, centers[lens, 1] + dy * ratio
            x[row, column], y[row, column] = px, py
