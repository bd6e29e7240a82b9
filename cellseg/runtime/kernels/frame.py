"""What a frame needs besides a slide's kernels: into given arrays, in one pass each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["gather", "look_up", "measure_cells", "split_channels"]

_ROUNDING = np.float32(12582912.0)  # 1.5 * 2**23: adding it leaves no fraction, ties to even


@njit(nogil=True, cache=True)
def look_up(image: NDArray[np.uint16], lut: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Map an image of one channel, (H, W), through a table of as many entries as its dtype has."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = lut[image[y, x]]


@njit(nogil=True, cache=True)
def gather(
    source: NDArray[np.uint32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    out: NDArray[np.uint32],
) -> None:
    """Write ``source[rows[y], columns[x]]`` to ``out[y, x]``."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = source[rows[y], columns[x]]


@njit(nogil=True, cache=True)
def split_channels(
    probabilities: NDArray[np.float32],
    interior_channel: int,
    threshold: float,
    foreground: NDArray[np.uint8],
    interior: NDArray[np.uint8],
) -> None:
    """Write foreground (0 or 1) and the interior channel in 256 steps.

    Parameters
    ----------
    probabilities : float32, shape (H, W, C)
        Channel 0 is background.
    interior_channel : int
        Which channel seeds are taken from.
    threshold : float
        Foreground where ``1 - probabilities[..., 0]`` reaches it.
    foreground, interior : uint8, shape (H, W)
        Written.
    """
    least = np.float32(threshold)
    for y in range(foreground.shape[0]):
        for x in range(foreground.shape[1]):
            foreground[y, x] = np.float32(1) - probabilities[y, x, 0] >= least
            sure = min(max(probabilities[y, x, interior_channel], np.float32(0)), np.float32(1))
            interior[y, x] = np.uint8(sure * np.float32(255) + _ROUNDING - _ROUNDING)


@njit(nogil=True, cache=True)
def measure_cells(
    labels: NDArray[np.uint32],
    classes: NDArray[np.uint8],
    sums: NDArray[np.int64],
    boxes: NDArray[np.int32],
    votes: NDArray[np.int32],
) -> None:
    """Add up what places and sizes of cells are computed from.

    Parameters
    ----------
    labels : uint32, shape (H, W)
        Cells 1..n.
    classes : uint8, shape (H, W)
        Class of each pixel.
    sums : int64, shape (n, 3)
        Zeros on entry; pixels, sum of x, sum of y.
    boxes : int32, shape (n, 4)
        x0, y0, x1, y1, half open; on entry x0 and y0 are large, the others 0.
    votes : int32, shape (n, number of classes)
        Zeros on entry; pixels of each class.
    """
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] == 0:
                continue
            cell = np.int64(labels[y, x]) - 1
            sums[cell, 0] += 1
            sums[cell, 1] += x
            sums[cell, 2] += y
            boxes[cell, 0] = min(boxes[cell, 0], x)
            boxes[cell, 1] = min(boxes[cell, 1], y)
            boxes[cell, 2] = max(boxes[cell, 2], x + 1)
            boxes[cell, 3] = max(boxes[cell, 3], y + 1)
            votes[cell, classes[y, x]] += 1
