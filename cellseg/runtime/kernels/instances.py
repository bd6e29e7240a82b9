"""Cells of each piece of foreground: its seeds, and numbers in raster order.

A piece with less than two seeds is one cell, whatever its relief; only the others are flooded. What
is done in one piece does not depend on any other.

The frame is that of `cellseg.runtime.kernels.watershed`: 0 waits for a label, `SEA` gets none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from cellseg.runtime.kernels.watershed import LEVELS, flood

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["mark_present", "mark_seeds", "number_cells", "part_pieces", "renumber_labels"]


@njit(nogil=True, cache=True)
def part_pieces(
    runs: NDArray[np.int32],
    starts: NDArray[np.int32],
    wanted: NDArray[np.bool_],
    height: NDArray[np.uint8],
    level: int,
    depth: int,
    min_px: int,
    framed: NDArray[np.int32],
    parts: NDArray[np.int32],
    work: NDArray[np.int32],
) -> None:
    """Part each wanted piece of foreground.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        Sorted by pieces; see `cellseg.runtime.kernels.runs`.
    starts : int32, shape (k + 1,)
        Where each piece begins in ``runs``.
    wanted : bool, shape (k,)
    height, level, depth, min_px, work
        As for `mark_seeds`.
    framed : int32, shape (H + 2, W + 2)
        On entry, `SEA` in and around all wanted pieces. On return, pieces of several cells have the
        labels 1..m; of the others it holds nothing of use. C-contiguous.
    parts : int32, shape (k,)
        Written: cells of each piece; 0 for those that are not wanted.
    """
    for piece in range(parts.size):
        parts[piece] = 0
        if wanted[piece]:
            some = runs[starts[piece] : starts[piece + 1]]
            seeds = mark_seeds(some, height, level, depth, min_px, framed, work)
            parts[piece] = max(1, seeds)
            if seeds > 1:
                flood(some, height, framed, work)


@njit(nogil=True, cache=True)
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
    count = 0
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
        for index in range(order.size):
            pixel = np.int64(order[index])
            labels[pixel] = size[_root(parent, np.int64(labels[pixel]))]
    return kept


@njit(nogil=True, cache=True)
def number_cells(
    runs: NDArray[np.int32],
    piece: NDArray[np.int32],
    parts: NDArray[np.int32],
    framed: NDArray[np.int32],
    min_area_px: int,
    labels: NDArray[np.uint32],
    first: NDArray[np.int64],
) -> int:
    """Give cells the numbers 1..n by their first pixels; those of too few pixels become 0.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        In raster order.
    piece : int32, shape (r,)
        The piece of each.
    parts, framed
        From `part_pieces`.
    min_area_px : int
    labels : uint32, shape (H, W)
        Filled with numbers; 0 = background.
    first : int64, shape (m,)
        Room for all cells. On return, its first n values are the first pixels ``y * W + x`` of the
        numbers 1..n.

    Returns
    -------
    int
        How many there are: n.
    """
    before, total = np.empty(parts.size, np.int64), -1  # cells of the pieces before, less one
    for index in range(parts.size):
        before[index] = total
        total += parts[index]
    area, number = np.zeros(first.size, np.int64), np.zeros(first.size, np.uint32)
    for run in range(runs.shape[0]):
        y, x0, x1 = runs[run]
        of_one = parts[piece[run]]
        if of_one == 1:
            area[before[piece[run]] + 1] += x1 - x0
        elif of_one > 1:
            for x in range(x0 + 1, x1 + 1):
                area[before[piece[run]] + framed[y + 1, x]] += 1
    labels[:] = 0
    count = 0
    for run in range(runs.shape[0]):
        y, x, x1 = runs[run]
        cells = parts[piece[run]]
        while cells > 0 and x < x1:
            label, end = 1, x1
            if cells > 1:
                label, end = framed[y + 1, x + 1], x + 1
                while end < x1 and framed[y + 1, end + 1] == label:
                    end += 1
            cell = before[piece[run]] + label
            if area[cell] >= min_area_px:
                if number[cell] == 0:
                    first[count] = y * labels.shape[1] + x
                    count += 1
                    number[cell] = count
                for at in range(x, end):
                    labels[y, at] = number[cell]
            x = end
    return count


@njit(nogil=True, cache=True)
def mark_present(labels: NDArray[np.uint32], present: NDArray[np.bool_]) -> None:
    """Set ``present``, shape (n + 1,), to True for the labels 0..n that an image (H, W) holds."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            present[labels[y, x]] = True


@njit(nogil=True, cache=True)
def renumber_labels(
    labels: NDArray[np.uint32],
    table: NDArray[np.uint32],
    numbers: NDArray[np.uint32],
    first: NDArray[np.int64],
) -> int:
    """Give labels the numbers 1..n by their first pixels.

    Parameters
    ----------
    labels : uint32, shape (H, W)
        Any up to m, 0 = background.
    table : uint32, shape (m + 1,)
        Zeros on entry, scratch on return.
    numbers : uint32, shape (H, W)
        Written.
    first : int64, shape (m,)
        Its first n values are written: the first pixels ``y * W + x`` of the numbers 1..n.

    Returns
    -------
    int
        How many there are: n.
    """
    height, width = labels.shape
    count = 0
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label != 0 and table[label] == 0:
                first[count] = y * width + x
                count += 1
                table[label] = count
            numbers[y, x] = table[label]
    return count


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True, inline="always")
def _is_other(label: int, largest: int) -> bool:
    return bool((label > 0) & (label != largest))


@njit(nogil=True, cache=True)
def _by_peak(peak: NDArray[np.int32], a: int, b: int) -> tuple[int, int]:
    """Return two labels, the lower peak first; of equal ones the later."""
    if peak[a] < peak[b] or (peak[a] == peak[b] and a > b):
        return a, b
    return b, a


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def _root(parent: NDArray[np.int32], label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label
