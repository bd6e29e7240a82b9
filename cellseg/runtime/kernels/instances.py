"""Cells of each piece of foreground: its seeds, and the runs of pixels that each cell is.

A piece with less than two seeds is one cell, whatever its relief; only the others are flooded. What
is done in one piece does not depend on any other, and it is done in a box of the piece's own, which
the processor's cache holds.

The frame is that of `cellseg.runtime.kernels.watershed`: 0 waits for a label, `SEA` gets none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel
from cellseg.runtime.kernels.watershed import LEVELS, SEA, flood

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["keep_runs", "mark_seeds", "move_runs", "part_pieces", "split_runs"]


@kernel
def part_pieces(
    runs: NDArray[np.int32],
    starts: NDArray[np.int32],
    boxes: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    height: NDArray[np.uint8],
    level: int,
    depth: int,
    min_px: int,
    work: NDArray[np.int32],
    work_heights: NDArray[np.uint8],
    cells: NDArray[np.int32],
    cell: NDArray[np.int32],
) -> int:
    """Part each wanted piece of foreground.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        Sorted by pieces; see `cellseg.runtime.kernels.runs`.
    starts : int32, shape (k + 1,)
        Where each piece begins in ``runs``.
    boxes : int64, shape (k, 4)
        From `cellseg.runtime.kernels.runs.find_boxes`.
    wanted : bool, shape (k,)
    height : uint8, shape (H, W)
    level, depth, min_px
        As for `mark_seeds`.
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
    int
        How many runs there are.
    """
    size, count = np.int64(0), np.int64(0)
    for piece in range(wanted.size):
        if not wanted[piece]:
            continue
        some, box = runs[starts[piece] : starts[piece + 1]], boxes[piece]
        hw = box[2] - box[0] + 2, box[3] - box[1] + 2
        px = hw[0] * hw[1]
        framed, heights = work[:px].reshape(hw), work_heights[:px].reshape(hw)
        seeds = 0
        if _pixels(some) >= 2 * min_px:  # or there is no room for two seeds
            inside = _fill_box(some, box, height, framed, heights)
            seeds = mark_seeds(inside, heights, level, depth, min_px, framed, work[px:])
            if seeds > 1:
                flood(inside, heights, framed, work[px:])
        if seeds < 2:
            size = keep_runs(some, count, cells, cell, size)
        else:
            size = split_runs(some, box, framed, count - 1, cells, cell, size)
        count += max(1, seeds)
    return int(size)


@kernel
def mark_seeds(
    runs: NDArray[np.int32],
    height: NDArray[np.uint8],
    level: int,
    depth: int,
    min_px: int,
    framed: NDArray[np.int32],
    work: NDArray[np.int32],
) -> int:
    """Label the peaks of a piece of foreground, each with all that belongs to it.

    Pixels that reach ``level`` are taken from high to low. One that touches no other begins a peak;
    where two peaks meet, they become one if the lower of them rises less than ``depth`` above that
    pass. These are the maxima of dynamics ``depth`` (Grimaud 1992), found by union-find.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        The piece.
    height : uint8, shape (H + 2, W + 2)
        C-contiguous; what lies in the frame is not looked at.
    level : int
        Lower pixels belong to no seed.
    depth : int
        256 keeps each 4-connected part that reaches ``level`` whole.
    min_px : int
        Peaks of fewer pixels are no seeds.
    framed : int32, shape (H + 2, W + 2)
        Of the piece, `SEA` on entry. Where there are several seeds, on return: seeds 1..n, and 0 in
        the rest of the piece. C-contiguous.
    work : int32, shape (3 * (H + 2) * (W + 2),)
        Memory to work in.

    Returns
    -------
    int
        Number of seeds, n.
    """
    order = _from_high_to_low(runs, height, level, framed, work)
    stride, labels, heights = framed.shape[1], framed.ravel(), height.ravel()
    # A peak begins where no neighbour is labelled: at every second pixel of an image at most.
    most, rest = min(order.size, framed.size // 2) + 1, work[order.size :]
    parent, peak, size = rest[:most], rest[most : 2 * most], rest[2 * most : 3 * most]
    count = np.int64(0)
    for index in range(order.size):
        pixel = np.int64(order[index])
        here = np.int32(heights[pixel])
        up, left = labels[pixel - stride], labels[pixel - 1]
        right, down = labels[pixel + 1], labels[pixel + stride]
        largest = max(max(up, left), max(right, down))
        # Without "or": nobody can foretell what lies around a pixel, the processor neither.
        is_pass = (
            _is_other(up, largest)
            | _is_other(left, largest)
            | _is_other(right, largest)
            | _is_other(down, largest)
        )
        if largest <= 0:
            count += 1
            best = np.int64(count)
            parent[best], peak[best], size[best] = best, here, 0
        elif not is_pass:
            best = _root(parent, np.int64(largest))
        else:
            best = np.int64(0)
            for label in (up, left, right, down):
                if label <= 0:
                    continue
                other = _root(parent, np.int64(label))
                if best == 0:
                    best = other
                elif other != best:
                    low, best = _by_peak(peak, best, other)
                    if peak[low] - here < depth:
                        parent[low] = best
                        size[best] += size[low]
        size[best] += 1
        labels[pixel] = best
    kept: int = _number_peaks(parent, size, count, min_px)
    if kept > 1:
        for label in range(1, count + 1):
            peak[label] = size[_root(parent, label)]
        for index in range(order.size):
            labels[order[index]] = peak[labels[order[index]]]
    return kept


@kernel
def _pixels(runs: NDArray[np.int32]) -> int:
    count = 0
    for run in range(runs.shape[0]):
        count += runs[run, 2] - runs[run, 1]
    return count


@kernel
def _fill_box(
    runs: NDArray[np.int32],
    box: NDArray[np.int64],
    height: NDArray[np.uint8],
    framed: NDArray[np.int32],
    heights: NDArray[np.uint8],
) -> NDArray[np.int32]:
    """Fill a piece's box with `SEA` and with its heights; return its runs as they lie there."""
    framed[:] = SEA
    inside: NDArray[np.int32] = move_runs(runs, box)
    for run in range(runs.shape[0]):
        source, drawn = height[runs[run, 0]], heights[inside[run, 0] + 1]
        for x in range(inside[run, 1], inside[run, 2]):
            drawn[x + 1] = source[x + box[1]]
    return inside


@kernel
def move_runs(runs: NDArray[np.int32], box: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return runs as they lie in a box."""
    inside = np.empty(runs.shape, np.int32)
    for run in range(runs.shape[0]):
        inside[run, 0] = runs[run, 0] - box[0]
        inside[run, 1], inside[run, 2] = runs[run, 1] - box[1], runs[run, 2] - box[1]
    return inside


@kernel
def keep_runs(
    runs: NDArray[np.int32],
    number: int,
    cells: NDArray[np.int32],
    cell: NDArray[np.int32],
    size: int,
) -> int:
    """Copy the runs of a piece that is one cell; return the new size."""
    for run in range(runs.shape[0]):
        for index in range(3):
            cells[size, index] = runs[run, index]
        cell[size] = number
        size += 1
    return size


@kernel
def split_runs(
    runs: NDArray[np.int32],
    box: NDArray[np.int64],
    framed: NDArray[np.int32],
    before: int,
    cells: NDArray[np.int32],
    cell: NDArray[np.int32],
    size: int,
) -> int:
    """Split the runs of a piece by its labels, 1 being cell ``before + 1``; return the new size."""
    y0, x0 = box[0] - 1, box[1] - 1
    for run in range(runs.shape[0]):
        y, x, end = runs[run, 0], runs[run, 1], runs[run, 2]
        row = framed[y - y0]
        while x < end:
            begin, label = x, row[x - x0]
            while x < end and row[x - x0] == label:
                x += 1
            cells[size, 0], cells[size, 1], cells[size, 2] = y, begin, x
            cell[size] = before + label
            size += 1
    return size


@kernel
def _from_high_to_low(
    runs: NDArray[np.int32],
    height: NDArray[np.uint8],
    level: int,
    framed: NDArray[np.int32],
    work: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Let the pixels of a piece wait; return those that reach a level, sorted by counting.

    They lie at the beginning of ``work``.
    """
    stride, labels, heights = framed.shape[1], framed.ravel(), height.ravel()
    count = np.zeros(LEVELS + 1, np.int32)  # of height 255 first
    for run in range(runs.shape[0]):
        row = (np.int64(runs[run, 0]) + 1) * stride + 1
        for pixel in range(row + runs[run, 1], row + runs[run, 2]):
            labels[pixel] = 0
            count[LEVELS - np.int64(heights[pixel])] += 1
    for index in range(1, LEVELS + 1 - level):
        count[index] += count[index - 1]
    order = work[: count[LEVELS - level]]
    for run in range(runs.shape[0]):
        row = (np.int64(runs[run, 0]) + 1) * stride + 1
        for pixel in range(row + runs[run, 1], row + runs[run, 2]):
            if heights[pixel] >= level:
                place = LEVELS - 1 - np.int64(heights[pixel])
                order[count[place]] = pixel
                count[place] += 1
    return order


@kernel
def _is_other(label: int, largest: int) -> bool:
    return bool((label > 0) & (label != largest))


@kernel
def _by_peak(peak: NDArray[np.int32], a: int, b: int) -> tuple[int, int]:
    """Return two labels, the lower peak first; of equal ones the later."""
    if peak[a] < peak[b] or (peak[a] == peak[b] and a > b):
        return a, b
    return b, a


@kernel
def _number_peaks(
    parent: NDArray[np.int32], size: NDArray[np.int32], count: int, min_px: int
) -> int:
    """Turn the sizes of peaks into numbers 1..n, 0 for those that are too small; return n."""
    kept = 0
    for label in range(1, count + 1):
        if parent[label] == label:
            if size[label] >= min_px:
                kept += 1
                size[label] = kept
            else:
                size[label] = 0
    return kept


@kernel
def _root(parent: NDArray[np.int32], label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label
