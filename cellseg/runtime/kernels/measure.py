"""Sums over the pixels of each cell: everything that its measurements are made of.

Sums are of integers, and those of optical density run in the raster order of the cell's own
pixels, so that a cell measures the same in any window that holds it whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel
from cellseg.runtime.kernels.hull import hull_pixels
from cellseg.runtime.kernels.outline import trace_cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COUNTS", "measure_shapes", "sum_values"]

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
"""Columns of ``counts`` in `measure_shapes` and `sum_values`."""


@kernel
def measure_shapes(
    runs: NDArray[np.int32],
    starts: NDArray[np.int32],
    boxes: NDArray[np.int64],
    corners: bool,
    work: NDArray[np.uint8],
    counts: NDArray[np.int64],
    points: NDArray[np.int32],
    ring_ends: NDArray[np.int64],
    ring_counts: NDArray[np.int32],
) -> int:
    """Sum up each cell's coordinates and edge, and trace its outline.

    Parameters
    ----------
    runs, starts, boxes
        As for `cellseg.runtime.kernels.runs.find_boxes`.
    corners, points, ring_ends
        See `cellseg.runtime.kernels.outline.trace_cell`.
    work : uint8, shape (2, s)
        Memory for the largest box with its frame, twice.
    counts : int64, shape (n, 17)
        Its first ten columns are written, see `COUNTS`. Coordinates are relative to the box;
        ``straight``, ``diagonal`` and ``mixed`` are the pixels of a cell's edge that scikit-image's
        ``perimeter`` weighs by 1, sqrt(2) and their mean; ``hull`` is the area of its
        ``convex_image``.
    ring_counts : int32, shape (n,)
        Written: rings of each cell. An outer ring's area is positive in (x, y), a hole's negative.

    Returns
    -------
    int
        How many rings there are.
    """
    rings = np.int64(0)
    for cell in range(boxes.shape[0]):
        some = runs[starts[cell] : starts[cell + 1]]
        y0, x0, y1, x1 = boxes[cell, 0], boxes[cell, 1], boxes[cell, 2], boxes[cell, 3]
        size = (y1 - y0 + 2) * (x1 - x0 + 2)
        mask = work[0, :size].reshape((y1 - y0 + 2, x1 - x0 + 2))
        edge = work[1, :size].reshape((y1 - y0 + 2, x1 - x0 + 2))
        _sum_coordinates(some, y0, x0, y1, x1, counts[cell])
        _fill_mask(some, y0, x0, mask)
        _sum_edge(mask, edge, counts[cell])
        before = rings
        rings = trace_cell(some, y0, x0, mask, corners, points, ring_ends, rings)
        ring_counts[cell] = rings - before
    return int(rings)


@kernel
def sum_values(
    runs: NDArray[np.int32],
    starts: NDArray[np.int32],
    origin_yx: tuple[int, int],
    rgb: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    probability: NDArray[np.uint8],
    density: NDArray[np.float64],
    counts: NDArray[np.int64],
    stains: NDArray[np.float64],
    class_px: NDArray[np.int64],
) -> None:
    """Sum up what lies under each cell.

    Parameters
    ----------
    runs, starts
        As for `measure_shapes`.
    origin_yx : (int, int)
        Where the picture and the maps begin.
    rgb : uint8, shape (H, W, 3)
        The picture.
    classes : uint8, shape (H, W)
        Class of each pixel.
    probability : uint8, shape (H, W) or (0, 0)
        Probability of foreground; empty where it was not kept.
    density : float64, shape (2, 3, 256)
        What a value of a channel adds to the optical density of either stain.
    counts : int64, shape (n, 17)
        Its columns from ``red`` on are written.
    stains : float64, shape (n, 2)
        Written: optical density, summed up; below 0 counts as 0.
    class_px : int64, shape (n, k)
        Written: pixels of each class.
    """
    class_px[:] = 0
    for cell in range(counts.shape[0]):
        sums, one, other, sure = np.zeros(6, np.int64), 0.0, 0.0, 0
        for run in range(starts[cell], starts[cell + 1]):
            y = runs[run, 0] - origin_yx[0]
            for x in range(runs[run, 1] - origin_yx[1], runs[run, 2] - origin_yx[1]):
                r, g, b = np.int64(rgb[y, x, 0]), np.int64(rgb[y, x, 1]), np.int64(rgb[y, x, 2])
                sums[0] += r
                sums[1] += g
                sums[2] += b
                sums[3] += r * r
                sums[4] += g * g
                sums[5] += b * b
                one += max(density[0, 0, r] + density[0, 1, g] + density[0, 2, b], 0.0)
                other += max(density[1, 0, r] + density[1, 1, g] + density[1, 2, b], 0.0)
                class_px[cell, classes[y, x]] += 1
                if probability.size > 0:
                    sure += probability[y, x]
        for index in range(6):
            counts[cell, 10 + index] = sums[index]
        counts[cell, 16] = sure
        stains[cell, 0], stains[cell, 1] = one, other


@kernel
def _sum_coordinates(
    runs: NDArray[np.int32], y0: int, x0: int, y1: int, x1: int, sums: NDArray[np.int64]
) -> None:
    """Fill in the sums of one cell's coordinates, and the area of its hull."""
    left, right = np.empty(y1 - y0, np.int64), np.empty(y1 - y0, np.int64)
    left[:], right[:] = x1 - x0, -1
    sums[:6] = 0
    for run in range(runs.shape[0]):
        dy = np.int64(runs[run, 0]) - y0
        begin, end = np.int64(runs[run, 1]) - x0, np.int64(runs[run, 2]) - x0
        left[dy], right[dy] = min(left[dy], begin), max(right[dy], end - 1)
        count, along = end - begin, (end - begin) * (begin + end - 1) // 2
        sums[0] += count
        sums[1] += dy * count
        sums[2] += along
        sums[3] += dy * dy * count
        sums[4] += _squares_below(end) - _squares_below(begin)
        sums[5] += dy * along
    sums[9] = hull_pixels(left, right)


@kernel
def _squares_below(end: int) -> int:
    """Sum of the squares of 0 .. end - 1."""
    return (end - 1) * end * (2 * end - 1) // 6


@kernel
def _fill_mask(runs: NDArray[np.int32], y0: int, x0: int, mask: NDArray[np.uint8]) -> None:
    """Set a cell's pixels to 1 in its box with a frame around it, all others to 0."""
    mask[:] = 0
    for run in range(runs.shape[0]):
        y = runs[run, 0] - y0 + 1
        for x in range(runs[run, 1] - x0 + 1, runs[run, 2] - x0 + 1):
            mask[y, x] = 1


@kernel
def _sum_edge(mask: NDArray[np.uint8], edge: NDArray[np.uint8], sums: NDArray[np.int64]) -> None:
    """Mark the pixels on a cell's edge, and sort them by the neighbours that lie on it, too."""
    height, width = mask.shape
    edge[:] = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            inside = mask[y - 1, x] & mask[y, x - 1] & mask[y, x + 1] & mask[y + 1, x]
            edge[y, x] = mask[y, x] & (inside ^ 1)
    sums[6:9] = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if edge[y, x]:
                above = edge[y - 1, x - 1] + edge[y - 1, x + 1]
                across = above + edge[y + 1, x - 1] + edge[y + 1, x + 1]
                beside = edge[y - 1, x] + edge[y, x - 1] + edge[y, x + 1] + edge[y + 1, x]
                sums[6] += _is_straight(beside, across)
                sums[7] += _is_diagonal(beside, across)
                sums[8] += _is_mixed(beside, across)


@kernel
def _is_straight(beside: int, across: int) -> bool:
    """Codes 5, 7, 15, 17, 25 and 27 of ``1 + 2 * beside + 10 * across``."""
    return (beside == 2 or beside == 3) and across <= 2


@kernel
def _is_diagonal(beside: int, across: int) -> bool:
    """Codes 21 and 33."""
    return (beside == 0 and across == 2) or (beside == 1 and across == 3)


@kernel
def _is_mixed(beside: int, across: int) -> bool:
    """Codes 13 and 23."""
    return beside == 1 and (across == 1 or across == 2)
