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
    rgb : uint8, shape (H, W, 3)
        The picture.
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
    tallest = 0
    for row in range(boxes.shape[0]):
        tallest = max(tallest, boxes[row, 2] - boxes[row, 0])
    left, right = np.empty(tallest, np.int64), np.empty(tallest, np.int64)
    class_px[:] = 0
    for row in range(boxes.shape[0]):
        height = boxes[row, 2] - boxes[row, 0]
        _sum_shape(labels, wanted[row], boxes[row], edge, left, right, counts[row])
        counts[row, 9] = hull_pixels(left[:height], right[:height])
        _sum_values(
            *(labels, wanted[row], boxes[row], rgb, classes, probability, density),
            *(left, right, counts[row], stains[row], class_px[row]),
        )


@njit(nogil=True, cache=True)
def _sum_shape(
    labels: NDArray[np.uint32],
    label: int,
    box: NDArray[np.int64],
    edge: NDArray[np.uint8],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    sums: NDArray[np.int64],
) -> None:
    """Fill in the sums of one cell's coordinates and of its edge; where its lines begin and end."""
    y0, x0, y1, x1 = box
    area, sum_y, sum_x, sum_yy, sum_xx, sum_yx = 0, 0, 0, 0, 0, 0
    straight, diagonal, mixed = 0, 0, 0
    for y in range(y0, y1):
        dy, first, last = y - y0, x1 - x0, -1
        count, along, squares = 0, 0, 0
        for x in range(x0, x1):
            if labels[y, x] != label:
                continue
            dx = x - x0
            first = min(first, dx)
            last = dx
            count += 1
            along += dx
            squares += dx * dx
            if edge[y, x]:
                beside, across = _edge_around(labels, label, edge, y, x)
                straight += _is_straight(beside, across)
                diagonal += _is_diagonal(beside, across)
                mixed += _is_mixed(beside, across)
        left[dy], right[dy] = first, last
        area += count
        sum_y += dy * count
        sum_x += along
        sum_yy += dy * dy * count
        sum_xx += squares
        sum_yx += dy * along
    sums[0], sums[1], sums[2] = area, sum_y, sum_x
    sums[3], sums[4], sums[5] = sum_yy, sum_xx, sum_yx
    sums[6], sums[7], sums[8] = straight, diagonal, mixed


@njit(nogil=True, cache=True)
def _edge_around(
    labels: NDArray[np.uint32], label: int, edge: NDArray[np.uint8], y: int, x: int
) -> tuple[int, int]:
    """Count the neighbours on the same cell's edge: beside a pixel, and across its corners."""
    beside, across = 0, 0
    for ny in range(max(y - 1, 0), min(y + 2, labels.shape[0])):
        for nx in range(max(x - 1, 0), min(x + 2, labels.shape[1])):
            if edge[ny, nx] and labels[ny, nx] == label:
                if ny != y and nx != x:
                    across += 1
                elif ny != y or nx != x:
                    beside += 1
    return beside, across


@njit(nogil=True, cache=True)
def _sum_values(
    labels: NDArray[np.uint32],
    label: int,
    box: NDArray[np.int64],
    rgb: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    probability: NDArray[np.uint8],
    density: NDArray[np.float64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    sums: NDArray[np.int64],
    stains: NDArray[np.float64],
    class_px: NDArray[np.int64],
) -> None:
    """Fill in the sums of what lies under one cell."""
    y0, x0, y1, _ = box
    has_probability = probability.size > 0
    zero = np.int64(0)
    red, green, blue, red_2, green_2, blue_2, sure = zero, zero, zero, zero, zero, zero, 0
    stains[:] = 0.0
    for y in range(y0, y1):
        for x in range(x0 + left[y - y0], x0 + right[y - y0] + 1):
            if labels[y, x] != label:
                continue
            r, g, b = np.int64(rgb[y, x, 0]), np.int64(rgb[y, x, 1]), np.int64(rgb[y, x, 2])
            red += r
            green += g
            blue += b
            red_2 += r * r
            green_2 += g * g
            blue_2 += b * b
            for stain in range(density.shape[0]):
                found = density[stain, 0, r] + density[stain, 1, g] + density[stain, 2, b]
                stains[stain] += max(found, 0.0)
            class_px[classes[y, x]] += 1
            if has_probability:
                sure += probability[y, x]
    sums[10], sums[11], sums[12] = red, green, blue
    sums[13], sums[14], sums[15], sums[16] = red_2, green_2, blue_2, sure


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
