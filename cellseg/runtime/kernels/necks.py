"""Cells parted by their shape: where two round parts meet in a neck.

A network that saw no border between two nuclei leaves no valley between them, and seeds find one
cell. Its outline still tells: the distance to the edge has a maximum in either part and falls
towards the neck. As in `cellseg.runtime.kernels.instances`, maxima count that rise by a depth above
the pass between them, and parts grow from them by watershed; here the relief is that distance.

Most cells are round and have no neck, which their widths tell sooner than their distances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel
from cellseg.runtime.kernels.instances import keep_runs, mark_seeds, move_runs, split_runs
from cellseg.runtime.kernels.watershed import LEVELS, SEA, flood

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["has_neck", "part_at_necks", "relief"]

_STRAIGHT, _DIAGONAL = 3, 4  # steps of the distance: to 6 % of a straight line's length
_NECK_PERCENT = 75  # of the widths on both sides
_LEAST_PART = 5  # the smallest part is at least a fifth of the cell


@kernel
def part_at_necks(
    runs: NDArray[np.int32],
    starts: NDArray[np.int32],
    boxes: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    depth: int,
    least_px: int,
    work: NDArray[np.int32],
    work_heights: NDArray[np.uint8],
    cells: NDArray[np.int32],
    cell: NDArray[np.int32],
) -> tuple[int, int]:
    """Part each wanted cell that has a neck; the others stay as they are.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        Sorted by cells; see `cellseg.runtime.cells.runs.CellRuns`.
    starts : int32, shape (k + 1,)
        Where each cell begins in ``runs``.
    boxes : int64, shape (k, 4)
        From `cellseg.runtime.kernels.runs.find_boxes`.
    wanted : bool, shape (k,)
    depth : int
        Of 255: how far the distance to the edge falls between two parts, of its maximum.
    least_px : int
        A cell of which a part would be smaller, or less than a fifth of it, stays whole.
    work : int32, shape (4 * s,)
        Memory for the largest box with its frame, of s pixels, four times.
    work_heights : uint8, shape (s,)
        The same, once.
    cells : int32, shape (c, 3)
        Written: the runs of all cells, those of one in raster order. Room for as many as ``runs``
        have pixels.
    cell : int32, shape (c,)
        Written: which cell each run belongs to, from 0 on.

    Returns
    -------
    runs : int
        How many there are.
    cells : int
        How many there are.
    """
    size, count, least = np.int64(0), np.int64(0), np.int64(1)
    for index in range(wanted.size):
        some, box = runs[starts[index] : starts[index + 1]], boxes[index]
        hw = box[2] - box[0] + 2, box[3] - box[1] + 2
        px = hw[0] * hw[1]
        framed, parts = work[:px].reshape(hw), 1
        if wanted[index] and has_neck(some, box, work):
            inside = move_runs(some, box)
            heights = work_heights[:px].reshape(hw)
            relief(inside, work[:px].reshape(hw), work[px : 2 * px].reshape(hw), heights)
            framed[:] = SEA
            parts = mark_seeds(inside, heights, least, depth, least, framed, work[px:])
            if parts > 1:
                flood(inside, heights, framed, work[px:])
                if _least(inside, framed, parts) < least_px:
                    parts = 1
        if parts > 1:
            size = split_runs(some, box, framed, count - 1, cells, cell, size)
        else:
            parts = 1
            size = keep_runs(some, count, cells, cell, size)
        count += parts
    return int(size), int(count)


@kernel
def has_neck(runs: NDArray[np.int32], box: NDArray[np.int64], work: NDArray[np.int32]) -> bool:
    """Tell whether a cell's width falls below 3/4 of it on both sides of a place.

    Widths are looked at along rows, columns and both diagonals. Of diagonals two neighbours count
    together: single ones of a narrow cell differ by a pixel for no reason but the grid.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        The cell's.
    box : int64, shape (4,)
        Its box: y0, x0, y1, x1.
    work : int32
        Memory for four times its height, width and one.
    """
    y0, x0 = box[0], box[1]
    height, width = box[2] - y0, box[3] - x0
    # A run adds 1 to the places from its first on and takes it back after its last.
    most = height + width + 1
    widths = work[: 4 * most].reshape(4, most)
    widths[:] = 0
    largest, rising, falling = widths[0], widths[1], widths[2]
    rows, columns = widths[3, :height], widths[3, height:]
    for run in range(runs.shape[0]):
        y, first, end = runs[run, 0] - y0, runs[run, 1] - x0, runs[run, 2] - x0
        rows[y] += end - first
        columns[first] += 1
        columns[end] -= 1
        rising[y + first] += 1
        rising[y + end] -= 1
        falling[height - y + first] += 1
        falling[height - y + end] -= 1
    if _has_valley(rows, largest):
        return True
    for changes in (columns, rising, falling):
        for place in range(1, changes.size):
            changes[place] += changes[place - 1]
    for diagonal in (rising, falling):
        for place in range(diagonal.size - 1):
            diagonal[place] += diagonal[place + 1]
    found: bool = (
        _has_valley(columns, largest)
        or _has_valley(rising, largest)
        or _has_valley(falling, largest)
    )
    return found


@kernel
def relief(
    runs: NDArray[np.int32],
    distance: NDArray[np.int32],
    sums: NDArray[np.int32],
    heights: NDArray[np.uint8],
) -> None:
    """Write how far each pixel of a cell is from its edge, smoothed; 255 is the farthest.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        The cell in its box, in raster order, without the frame.
    distance, sums : int32, shape (H + 2, W + 2)
        Memory to work in.
    heights : uint8, shape (H + 2, W + 2)
        Written on the cell's pixels.
    """
    stride, rows = distance.shape[1], distance.shape[0]
    far, sum_of, height = distance.ravel(), sums.ravel(), heights.ravel()
    far[:] = 0
    for run in range(runs.shape[0]):
        row = (np.int64(runs[run, 0]) + 1) * stride + 1
        for pixel in range(row + runs[run, 1], row + runs[run, 2]):
            above = pixel - stride
            straight = min(far[above], far[pixel - 1]) + _STRAIGHT
            far[pixel] = min(straight, min(far[above - 1], far[above + 1]) + _DIAGONAL)
    for run in range(runs.shape[0] - 1, -1, -1):
        row = (np.int64(runs[run, 0]) + 1) * stride + 1
        for pixel in range(row + runs[run, 2] - 1, row + runs[run, 1] - 1, -1):
            below = pixel + stride
            straight = min(far[below], far[pixel + 1]) + _STRAIGHT
            diagonal = min(far[below - 1], far[below + 1]) + _DIAGONAL
            far[pixel] = min(far[pixel], min(straight, diagonal))
    # Sums of five along x, then along y. What lies past a row's frame is the next one's: 0, too.
    sums[0], sums[rows - 1] = 0, 0
    for pixel in range(stride, (rows - 1) * stride):
        sum_of[pixel] = (
            far[pixel - 2] + far[pixel - 1] + far[pixel] + far[pixel + 1] + far[pixel + 2]
        )
    top = np.int32(1)
    for run in range(runs.shape[0]):
        y = np.int64(runs[run, 0]) + 1
        row = y * stride + 1
        up = 2 * stride if y > 1 else stride
        down = 2 * stride if y < rows - 2 else stride
        for pixel in range(row + runs[run, 1], row + runs[run, 2]):
            near = sum_of[pixel - stride] + sum_of[pixel] + sum_of[pixel + stride]
            total = near + sum_of[pixel - up] + sum_of[pixel + down]
            far[pixel] = total
            top = max(top, total)
    scale = (LEVELS - 1) / np.float64(top)
    for run in range(runs.shape[0]):
        row = (np.int64(runs[run, 0]) + 1) * stride + 1
        for pixel in range(row + runs[run, 1], row + runs[run, 2]):
            height[pixel] = np.int32(far[pixel] * scale + 0.5)


@kernel
def _has_valley(widths: NDArray[np.int32], largest: NDArray[np.int32]) -> bool:
    """Tell whether a width is below 3/4 of one before it and of one after it.

    Zeros lie at both ends only. At least an eighth of all lies on either side of the place: what
    has less would be too small a part. ``largest`` is memory for as many numbers.
    """
    total, so_far = np.int64(0), np.int32(0)
    for place in range(widths.size):
        so_far = max(so_far, widths[place])
        largest[place] = so_far
        total += widths[place]
    after, behind = np.int32(0), np.int64(0)
    for place in range(widths.size - 1, -1, -1):
        width = widths[place]
        is_narrow = 100 * width < _NECK_PERCENT * min(largest[place], after)
        if is_narrow and 8 * min(behind, total - behind - width) >= total:
            return True
        after = max(after, width)
        behind += width
    return False


@kernel
def _least(runs: NDArray[np.int32], framed: NDArray[np.int32], parts: int) -> int:
    """Return the pixels of the smallest part; 0 if that is less than a fifth of all."""
    sizes = np.zeros(parts + 1, np.int64)
    for run in range(runs.shape[0]):
        y = runs[run, 0] + 1
        for x in range(runs[run, 1] + 1, runs[run, 2] + 1):
            sizes[framed[y, x]] += 1
    least, total = sizes[1], np.int64(0)
    for part in range(1, parts + 1):
        least = min(least, sizes[part])
        total += sizes[part]
    return least if least * _LEAST_PART >= total else 0
