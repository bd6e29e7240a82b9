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
    min_px: int,
    framed: NDArray[np.uint32],
    elevation: NDArray[np.uint8],
    work: NDArray[np.int32],
) -> int:
    """Label the 4-connected pieces of foreground that are high enough, and fill the frame.

    Two passes with union-find (Rosenfeld and Pfaltz 1966); the smaller number is the parent.

    Parameters
    ----------
    foreground : bool, shape (H, W)
    height : uint8, shape (H, W)
        A seed reaches ``level`` in all its pixels.
    level : int
    min_px : int
        Pieces of fewer pixels are no seeds.
    framed : uint32, shape (H + 2, W + 2)
        Filled: seeds 1..n, 0 in the rest of the foreground, `SEA` outside.
    elevation : uint8, shape (H + 2, W + 2)
        Filled with ``255 - height``; its frame is left as it is.
    work : int32, shape ((H + 2) * (W + 2),)
        Memory to work in.

    Returns
    -------
    int
        Number of seeds, n.
    """
    rows, columns = foreground.shape
    # 4-connected pieces begin at every second pixel at most.
    most = rows * columns // 2 + 2
    parent, size = work[:most], work[most : 2 * most]
    count = 0
    framed[0] = framed[rows + 1] = SEA
    for y in range(rows):
        framed[y + 1, 0] = framed[y + 1, columns + 1] = SEA
        for x in range(columns):
            elevation[y + 1, x + 1] = 255 - height[y, x]
            if not foreground[y, x] or height[y, x] < level:
                framed[y + 1, x + 1] = 0 if foreground[y, x] else SEA
                continue
            above, left = framed[y, x + 1], framed[y + 1, x]
            is_above, is_left = above != 0 and above != SEA, left != 0 and left != SEA
            if is_above and is_left:
                label = _union(parent, above, left)
            elif is_above or is_left:
                label = np.int64(above if is_above else left)
            else:
                count += 1
                label = count
                parent[label], size[label] = label, 0
            size[label] += 1
            framed[y + 1, x + 1] = label
    kept: int = _number_pieces(framed, parent, size, count, min_px)
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
    work : int32, shape ((H + 2) * (W + 2),)
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
def _union(parent: NDArray[np.int32], a: int, b: int) -> int:
    a, b = _root(parent, a), _root(parent, b)
    low, high = min(a, b), max(a, b)
    parent[high] = low
    return low


@njit(nogil=True, cache=True)
def _root(parent: NDArray[np.int32], label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@njit(nogil=True, cache=True)
def _number_pieces(
    framed: NDArray[np.uint32],
    parent: NDArray[np.int32],
    size: NDArray[np.int32],
    count: int,
    min_px: int,
) -> int:
    """Replace provisional labels by 1..n, and those of pieces that are too small by 0."""
    for label in range(count, 0, -1):  # a parent is smaller than its children
        root = _root(parent, label)
        if root != label:
            size[root] += size[label]
    kept = 0
    for label in range(1, count + 1):
        if parent[label] != label:
            size[label] = size[_root(parent, label)]
        elif size[label] < min_px:
            size[label] = 0
        else:
            kept += 1
            size[label] = kept
    for y in range(1, framed.shape[0] - 1):
        for x in range(1, framed.shape[1] - 1):
            if framed[y, x] != 0 and framed[y, x] != SEA:
                framed[y, x] = size[framed[y, x]]
    return kept
