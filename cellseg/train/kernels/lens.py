"""Sampling positions: barrel and pincushion distortion, affine maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@kernel
def bend(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    centers: NDArray[np.float32],
    radius: float,
    ratios: NDArray[np.float32],
) -> None:
    """Move sampling positions as lenses would, in place; the last lens is looked through first.

    Inside ``radius`` of a centre, a position at distance d becomes ``centre + delta * ratio(d)``.
    The ratio is looked up: sine and power take ten times as long.

    Parameters
    ----------
    x, y : float32, shape (H, W)
        Where each output pixel is sampled from; written in place.
    centers : float32, shape (n, 2)
        Centres (x, y), px.
    radius : float
        Reach, px.
    ratios : float32, shape (n, steps + 1)
        Ratio of each lens at distances of 0, 1 / steps, ... 1 radius; linear between them.
    """
    height, width = x.shape
    steps = ratios.shape[1] - 1
    reach, scale = radius * radius, steps / radius
    for row in range(height):
        for column in range(width):
            px, py = x[row, column], y[row, column]
            for lens in range(centers.shape[0] - 1, -1, -1):
                dx, dy = px - centers[lens, 0], py - centers[lens, 1]
                square = dx * dx + dy * dy
                if square >= reach:
                    continue
                place = math.sqrt(square) * scale
                index = min(int(place), steps - 1)
                low, high = ratios[lens, index], ratios[lens, index + 1]
                ratio = low + (high - low) * (place - index)
                px, py = centers[lens, 0] + dx * ratio, centers[lens, 1] + dy * ratio
            x[row, column], y[row, column] = px, py


@kernel
def place(x: NDArray[np.float32], y: NDArray[np.float32], matrix: NDArray[np.float32]) -> None:
    """Take positions through an affine map, in place.

    Parameters
    ----------
    x, y : float32, shape (H, W)
        Positions; written in place.
    matrix : float32, shape (2, 3)
        The map.
    """
    height, width = x.shape
    for row in range(height):
        for column in range(width):
            px, py = x[row, column], y[row, column]
            x[row, column] = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2]
            y[row, column] = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2]
