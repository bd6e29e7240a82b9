"""Marker-controlled watershed on 256 levels: lowest first, then first come first served.

Meyer's flooding without watershed lines: a pixel takes its label when it is queued, and a queued
pixel is never re-labelled. With 256 levels the priority queue is an array of linked lists, so the
whole flood costs O(pixels).

Works in a frame one pixel wider than the image on each side, which spares the inner loop all
questions about borders. A pixel of it is 0 where it waits for a label, `SEA` where it gets none,
else its label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 256
SEA = 0xFFFFFFFF


@njit(nogil=True, cache=True)
def flood(
    elevation: NDArray[np.uint8], framed: NDArray[np.uint32], following: NDArray[np.int32]
) -> None:
    """Grow labels over the pixels that wait for one, in place.

    Parameters
    ----------
    elevation : uint8, shape (H + 2, W + 2)
        Flooded from low to high; C-contiguous, what lies in the frame is not looked at.
    framed : uint32, shape (H + 2, W + 2)
        Labels, 0 and `SEA`, with `SEA` all around; C-contiguous. Growth is 4-connected; 0 remains
        where no label can come. At most 2^31 pixels.
    following : int32, shape ((H + 2) * (W + 2),) or more
        Memory to work in.
    """
    stride = framed.shape[1]
    labels, heights = framed.ravel(), elevation.ravel()
    first = np.full(LEVELS, -1, np.int32)
    last = np.full(LEVELS, -1, np.int32)
    for seed in range(stride, labels.size - stride):
        if labels[seed] != SEA and labels[seed] != 0 and _can_grow(labels, seed, stride):
            _push(first, last, following, np.int64(heights[seed]), seed)
    level = np.int64(0)
    while level < LEVELS:
        pixel = np.int64(first[level])
        if pixel < 0:
            level += 1
            continue
        first[level] = following[pixel]
        for step in (-stride, -1, 1, stride):
            neighbour = pixel + step
            if labels[neighbour] == 0:
                labels[neighbour] = labels[pixel]
                if _can_grow(labels, neighbour, stride):
                    higher = max(level, np.int64(heights[neighbour]))
                    _push(first, last, following, higher, neighbour)


@njit(nogil=True, cache=True)
def _can_grow(labels: NDArray[np.uint32], pixel: int, stride: int) -> bool:
    """Tell whether a neighbour waits for a label: a pixel without one need not be queued."""
    return bool(
        labels[pixel - stride] == 0
        or labels[pixel - 1] == 0
        or labels[pixel + 1] == 0
        or labels[pixel + stride] == 0
    )


@njit(nogil=True, cache=True)
def _push(
    first: NDArray[np.int32],
    last: NDArray[np.int32],
    following: NDArray[np.int32],
    level: int,
    pixel: int,
) -> None:
    following[pixel] = -1
    if first[level] < 0:
        first[level] = pixel
    else:
        following[last[level]] = pixel
    last[level] = pixel
