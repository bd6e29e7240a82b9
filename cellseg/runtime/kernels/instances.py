"""Instances before and after the flood: seeds, pieces without one, and numbers in raster order.

The frame is that of `cellseg.runtime.kernels.watershed`: 0 waits for a label, `SEA` gets none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from cellseg.runtime.kernels.watershed import SEA

if TYPE_CHECKING:
    from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def mark_seeds(
    foreground: NDArray[np.bool_],
    height: NDArray[np.uint8],
    level: int,
    depth: int,
    min_px: int,
    framed: NDArray[np.uint32],
    elevation: NDArray[np.uint8],
    work: NDArray[np.int32],
) -> int:
    """Label the peaks of the foreground, each with all that belongs to it, and fill the frame.

    Pixels that reach ``level`` are taken from high to low. One that touches no other begins a peak;
    where two peaks meet, they become one if the lower of them rises less than ``depth`` above that
    pass. These are the maxima of dynamics ``depth`` (Grimaud 1992), found by union-find.

    Parameters
    ----------
    foreground : bool, shape (H, W)
    height : uint8, shape (H, W)
    level : int
        Lower pixels belong to no seed.
    depth : int
        256 keeps each 4-connected piece that reaches ``level`` whole.
    min_px : int
        Peaks of fewer pixels are no seeds.
    framed : uint32, shape (H + 2, W + 2)
        Filled: seeds 1..n, 0 in the rest of the foreground, `SEA` outside. C-contiguous.
    elevation : uint8, shape (H + 2, W + 2)
        Filled with ``255 - height``; its frame is left as it is.
    work : int32, shape (3 * (H + 2) * (W + 2),)
        Memory to work in.

    Returns
    -------
    int
        Number of seeds, n.
    """
    order = _from_high_to_low(foreground, height, level, framed, elevation, work)
    stride, labels, depths = framed.shape[1], framed.ravel(), elevation.ravel()
    # A peak begins where no neighbour is labelled: at every second pixel of an image at most.
    most, rest = min(order.size, foreground.size // 2 + 1) + 1, work[order.size :]
    parent, peak, size = rest[:most], rest[most : 2 * most], rest[2 * most : 3 * most]
    size[:] = 0
    count = 0
    for index in range(order.size):
        pixel = np.int64(order[index])
        here = 255 - np.int32(depths[pixel])
        best = np.int64(0)
        for step in (-stride, -1, 1, stride):
            label = labels[pixel + step]
            if label == 0 or label == SEA:
                continue
            other = _root(parent, np.int64(label))
            if best == 0:
                best = other
            elif other != best:
                low, best = _by_peak(peak, best, other)
                if peak[low] - here < depth:
                    parent[low] = best
                    size[best] += size[low]
        if best == 0:
            count += 1
            best = np.int64(count)
            parent[best], peak[best] = best, here
        size[best] += 1
        labels[pixel] = best
    kept = 0
    for label in range(1, count + 1):
        if parent[label] == label:
            is_kept = size[label] >= min_px
            kept += is_kept
            size[label] = kept if is_kept else 0
    for index in range(order.size):
        pixel = np.int64(order[index])
        labels[pixel] = size[_root(parent, np.int64(labels[pixel]))]
    return kept


@njit(nogil=True, cache=True)
def label_left(framed: NDArray[np.uint32], count: int, work: NDArray[np.int32]) -> int:
    """Give each 4-connected piece that still waits for a label one of its own, in place.

    Parameters
    ----------
    framed : uint32, shape (H + 2, W + 2)
        After the flood; C-contiguous.
    count : int
        Labels so far.
    work : int32, shape ((H + 2) * (W + 2),) or more
        Memory to work in.

    Returns
    -------
    int
        Labels now.
    """
    stride, labels, stack = framed.shape[1], framed.ravel(), work
    for start in range(stride, labels.size - stride):
        if labels[start] != 0:
            continue
        count += 1
        labels[start] = count
        stack[0], depth = start, 1
        while depth > 0:
            depth -= 1
            pixel = np.int64(stack[depth])
            for step in (-stride, -1, 1, stride):
                if labels[pixel + step] == 0:
                    labels[pixel + step] = count
                    stack[depth] = pixel + step
                    depth += 1
    return count


@njit(nogil=True, cache=True)
def number_in_raster_order(
    framed: NDArray[np.uint32],
    min_area_px: int,
    table: NDArray[np.uint32],
    labels: NDArray[np.uint32],
    first: NDArray[np.int64],
) -> int:
    """Give labels the numbers 1..n by their first pixels; those of too few pixels become 0.

    Parameters
    ----------
    framed : uint32, shape (H + 2, W + 2)
        Labels 1..m, or `SEA`.
    min_area_px : int
    table : uint32, shape (m + 1,)
        Zeros on entry, scratch on return.
    labels : uint32, shape (H, W)
        Filled with numbers; 0 = background.
    first : int64, shape (m,)
        On return, its first n values are the first pixels ``y * W + x`` of the numbers 1..n.

    Returns
    -------
    int
        How many there are: n.
    """
    height, width = labels.shape
    area = np.zeros(table.size, np.int64)
    for y in range(height):
        for x in range(width):
            if framed[y + 1, x + 1] != SEA:
                area[framed[y + 1, x + 1]] += 1
    count = 0
    for y in range(height):
        for x in range(width):
            label = framed[y + 1, x + 1]
            if label == SEA or area[label] < min_area_px:
                labels[y, x] = 0
                continue
            if table[label] == 0:
                first[count] = y * width + x
                count += 1
                table[label] = count
            labels[y, x] = table[label]
    return count


@njit(nogil=True, cache=True)
def _from_high_to_low(
    foreground: NDArray[np.bool_],
    height: NDArray[np.uint8],
    level: int,
    framed: NDArray[np.uint32],
    elevation: NDArray[np.uint8],
    work: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Fill the frame without seeds; return the pixels that reach a level, sorted by counting.

    They lie at the beginning of ``work``.
    """
    rows, columns = foreground.shape
    count = np.zeros(257, np.int64)
    framed[0] = framed[rows + 1] = SEA
    for y in range(rows):
        framed[y + 1, 0] = framed[y + 1, columns + 1] = SEA
        for x in range(columns):
            depth = 255 - height[y, x]
            elevation[y + 1, x + 1] = depth
            framed[y + 1, x + 1] = 0 if foreground[y, x] else SEA
            if foreground[y, x] and height[y, x] >= level:
                count[depth + 1] += 1
    for depth in range(256):
        count[depth + 1] += count[depth]
    order = work[: count[256]]
    for y in range(rows):
        for x in range(columns):
            if foreground[y, x] and height[y, x] >= level:
                depth = 255 - height[y, x]
                order[count[depth]] = (y + 1) * (columns + 2) + x + 1
                count[depth] += 1
    return order


@njit(nogil=True, cache=True)
def _by_peak(peak: NDArray[np.int32], a: int, b: int) -> tuple[int, int]:
    """Return two labels, the lower peak first; of equal ones the later."""
    if peak[a] < peak[b] or (peak[a] == peak[b] and a > b):
        return a, b
    return b, a


@njit(nogil=True, cache=True)
def _root(parent: NDArray[np.int32], label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label
