"""Marker-controlled watershed on 256 levels: lowest first, then first come first served.

Meyer's flooding without watershed lines: a pixel takes its label when it is queued, and a queued
pixel is never re-labelled. With 256 levels the priority queue is an array of linked lists, so the
whole flood costs O(pixels).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 256


@njit(nogil=True, cache=True)
def flood(
    elevation: NDArray[np.uint8], mask: NDArray[np.bool_], labels: NDArray[np.uint32]
) -> None:
    """Grow ``labels`` over ``mask`` from its non-zero pixels, in place.

    Parameters
    ----------
    elevation : uint8, shape (H, W)
        Flooded from low to high.
    mask : bool, shape (H, W)
        Only pixels inside are labelled.
    labels : uint32, shape (H, W)
        Seeds on entry, segments on return; 4-connected growth. At most 2^31 pixels.
    """
    height, width = labels.shape
    following = np.full(height * width, -1, np.int32)
    first = np.full(LEVELS, -1, np.int32)
    last = np.full(LEVELS, -1, np.int32)
    for y in range(height):
        for x in range(width):
            if labels[y, x] != 0 and mask[y, x] and _can_grow(mask, labels, y, x):
                _push(first, last, following, elevation[y, x], y * width + x)
    level = 0
    while level < LEVELS:
        pixel = first[level]
        if pixel < 0:
            level += 1
            continue
        first[level] = following[pixel]
        if first[level] < 0:
            last[level] = -1
        y, x = pixel // width, pixel % width
        for step in range(4):
            ny = y + (1 if step == 3 else -1 if step == 0 else 0)
            nx = x + (1 if step == 2 else -1 if step == 1 else 0)
            if ny < 0 or nx < 0 or ny >= height or nx >= width:
                continue
            if labels[ny, nx] != 0 or not mask[ny, nx]:
                continue
            labels[ny, nx] = labels[y, x]
            if _can_grow(mask, labels, ny, nx):
                higher = max(level, np.int64(elevation[ny, nx]))
                _push(first, last, following, higher, ny * width + nx)


@njit(nogil=True, cache=True)
def _can_grow(mask: NDArray[np.bool_], labels: NDArray[np.uint32], y: int, x: int) -> bool:
    """Tell whether a neighbour waits for a label: a pixel without one need not be queued."""
    height, width = labels.shape
    return bool(
        (y > 0 and mask[y - 1, x] and labels[y - 1, x] == 0)
        or (x > 0 and mask[y, x - 1] and labels[y, x - 1] == 0)
        or (x + 1 < width and mask[y, x + 1] and labels[y, x + 1] == 0)
        or (y + 1 < height and mask[y + 1, x] and labels[y + 1, x] == 0)
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
    if last[level] < 0:
        first[level] = pixel
    else:
        following[last[level]] = pixel
    last[level] = pixel
