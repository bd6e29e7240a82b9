"""Sums over the pixels of each cell: everything that its measurements are made of.

Sums are of integers, and those of optical density run in the raster order of the cell's own
pixels, so that a cell measures the same in any window that holds it whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from cellseg.runtime.kernels.hull import hull_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COUNTS", "find_edges", "sum_cells"]

COUNTS = (
    "area",
    "sum_y",
    "sum_x",
    "sum_yy",
    "sum_xx",
    "sum_yx",
    "straight",
    "diagonal",
    "mixed",
    "hull",
    "red",
    "green",
    "blue",
    "red_2",
    "green_2",
    "blue_2",
    "probability",
)
"""Columns of ``counts`` in `sum_cells`."""


@njit(nogil=True, cache=True)
def find_edges(
    labels: NDArray[np.uint32],
    row_of: NDArray[np.int32],
    edge: NDArray[np.uint8],
    boxes: NDArray[np.int64],
    sides: NDArray[np.int64],
) -> None:
    """Mark the pixels on the edge of a cell; find boxes and lengths of outlines.

    Parameters
    ----------
    labels : uint32, shape (H, W)
    row_of : int32, shape (m + 1,)
        Row of each label in ``boxes`` and ``sides``; -1 for one that is not wanted.
    edge : uint8, shape (H, W)
        Written: 1 where a wanted pixel has a side that is not shared with its own cell.
    boxes : int64, shape (n, 4)
        Written: y0, x0, y1, x1, half open.
    sides : int64, shape (n,)
        Written: sides of pixels that make the cell's outline, holes included.
    """
    height, width = labels.shape
    for row in range(boxes.shape[0]):
        boxes[row, 0], boxes[row, 1] = height, width
        boxes[row, 2], boxes[row, 3] = 0, 0
        sides[row] = 0
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            edge[y, x] = 0
            if label == 0 or row_of[label] < 0:
                continue
            row = row_of[label]
            open_sides = 0
            if y == 0 or labels[y - 1, x] != label:
                open_sides += 1
            if x == 0 or labels[y, x - 1] != label:
                open_sides += 1
            if x + 1 == width or labels[y, x + 1] != label:
                open_sides += 1
            if y + 1 == height or labels[y + 1, x] != label:
                open_sides += 1
            if open_sides:
                edge[y, x] = 1
                sides[row] += open_sides
                boxes[row, 0] = min(boxes[row, 0], y)
                boxes[row, 1] = min(boxes[row, 1], x)
                boxes[row, 2] = max(boxes[row, 2], y + 1)
                boxes[row, 3] = max(boxes[row, 3], x + 1)


@njit(nogil=True, cache=True)
def sum_cells(
    labels: NDArray[np.uint32],
    wanted: NDArray[np.uint32],
    boxes: NDArray[np.int64],
    edge: NDArray[np.uint8],
    rgb: NDArray[np.uint8],
    rgb_yx: tuple[int, int],
    classes: NDArray[np.uint8],
    probability: NDArray[np.uint8],
    density: NDArray[np.float64],
    counts: NDArray[np.int64],
    stains: NDArray[np.float64],
    class_px: NDArray[np.int64],
) -> None:
    """Sum up the pixels of each cell.

    Parameters
    ----------
    labels : uint32, shape (H, W)
    wanted : uint32, shape (n,)
        Label of each row of what is written.
    boxes, edge
        From `find_edges`.
    rgb : uint8, shape (h, w, 3)
        Holds all boxes.
    rgb_yx : (int, int)
        Where its first pixel lies in ``labels``.
    classes : uint8, shape (H, W)
        Class of each pixel.
    probability : uint8, shape (H, W) or (0, 0)
        Probability of foreground; empty where it was not kept.
    density : float64, shape (stains, 3, 256)
        What a value of a channel adds to the optical density of a stain.
    counts : int64, shape (n, 17)
        Written, columns as in `COUNTS`. Coordinates are relative to the box; ``straight``,
        ``diagonal`` and ``mixed`` are the pixels of a cell's edge that scikit-image's ``perimeter``
        weighs by 1, sqrt(2) and their mean; ``hull`` is the area of its ``convex_image``.
    stains : float64, shape (n, stains)
        Written: optical density, summed up; below 0 counts as 0.
    class_px : int64, shape (n, k)
        Written: pixels of each class.
    """
    height, width = labels.shape
    counts[:] = 0
    stains[:] = 0.0
    class_px[:] = 0
    has_probability = probability.size > 0
    tallest = 0
    for row in range(boxes.shape[0]):
        tallest = max(tallest, boxes[row, 2] - boxes[row, 0])
    left, right = np.empty(tallest, np.int64), np.empty(tallest, np.int64)
    for row in range(boxes.shape[0]):
        label = wanted[row]
        y0, x0, y1, x1 = boxes[row]
        sums = counts[row]
        for y in range(y0, y1):
            left[y - y0], right[y - y0] = x1 - x0, -1
            dy = y - y0
            for x in range(x0, x1):
                if labels[y, x] != label:
                    continue
                dx = x - x0
                left[dy] = min(left[dy], dx)
                right[dy] = dx
                sums[0] += 1
                sums[1] += dy
                sums[2] += dx
                sums[3] += dy * dy
                sums[4] += dx * dx
                sums[5] += dy * dx
                pixel = rgb[y - rgb_yx[0], x - rgb_yx[1]]
                for channel in range(3):
                    value = np.int64(pixel[channel])
                    sums[10 + channel] += value
                    sums[13 + channel] += value * value
                for stain in range(density.shape[0]):
                    found = density[stain, 0, pixel[0]] + density[stain, 1, pixel[1]]
                    found += density[stain, 2, pixel[2]]
                    stains[row, stain] += max(found, 0.0)
                class_px[row, classes[y, x]] += 1
                if has_probability:
                    sums[16] += probability[y, x]
                if edge[y, x]:
                    beside, across = 0, 0
                    for ny in range(max(y - 1, 0), min(y + 2, height)):
                        for nx in range(max(x - 1, 0), min(x + 2, width)):
                            if edge[ny, nx] and labels[ny, nx] == label:
                                if ny != y and nx != x:
                                    across += 1
                                elif ny != y or nx != x:
                                    beside += 1
                    sums[6] += _is_straight(beside, across)
                    sums[7] += _is_diagonal(beside, across)
                    sums[8] += _is_mixed(beside, across)
        sums[9] = hull_pixels(left[: y1 - y0], right[: y1 - y0])


@njit(nogil=True, cache=True, inline="always")
def _is_straight(beside: int, across: int) -> bool:
    """Codes 5, 7, 15, 17, 25 and 27 of ``1 + 2 * beside + 10 * across``."""
    return (beside == 2 or beside == 3) and across <= 2


@njit(nogil=True, cache=True, inline="always")
def _is_diagonal(beside: int, across: int) -> bool:
    """Codes 21 and 33."""
    return (beside == 0 and across == 2) or (beside == 1 and across == 3)


@njit(nogil=True, cache=True, inline="always")
def _is_mixed(beside: int, across: int) -> bool:
    """Codes 13 and 23."""
    return beside == 1 and (across == 1 or across == 2)
