"""Marker-controlled watershed on 256 levels: highest first, then first come first served.

Meyer's flooding without watershed lines, turned upside down: a pixel takes its label when it is
queued, and a queued pixel is never re-labelled. With 256 levels the priority queue is an array of
linked lists, so the whole flood costs O(pixels).

Works on one piece of foreground at a time, whose pixels stay in the processor's cache, and in a
frame one pixel wider than the image on each side, which spares the inner loop all questions about
borders. A pixel of it is 0 where it waits for a label, `SEA` where it gets none, else its label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 256
SEA = -1


@kernel
def flood(
    runs: NDArray[np.int32],
    height: NDArray[np.uint8],
    framed: NDArray[np.int32],
    following: NDArray[np.int32],
) -> None:
    """Grow labels over the pixels of runs that wait for one, in place.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        The pixels: y, x0, x1 without the frame, in raster order.
    height : uint8, shape (H + 2, W + 2)
        Flooded from high to low; C-contiguous, what lies in the frame is not looked at.
    framed : int32, shape (H + 2, W + 2)
        Labels, 0 and `SEA`, with `SEA` all around; C-contiguous. Growth is 4-connected; 0 remains
        where no label can come. At most 2^31 pixels.
    following : int32, shape ((H + 2) * (W + 2),) or more
        Memory to work in.
    """
    stride = framed.shape[1]
    labels, heights = framed.ravel(), height.ravel()
    first = np.full(LEVELS, -1, np.int32)
    last = np.empty(LEVELS, np.int32)
    for run in range(runs.shape[0]):
        row = (np.int64(runs[run, 0]) + 1) * stride + 1
        for seed in range(row + runs[run, 1], row + runs[run, 2]):
            if labels[seed] != 0 and _can_grow(labels, seed, stride):
                _push(first, last, following, np.int64(heights[seed]), seed)
    level = np.int64(LEVELS - 1)
    while level >= 0:
        pixel = np.int64(first[level])
        if pixel < 0:
            level -= 1
            continue
        first[level] = following[pixel]
        for step in (-stride, -1, 1, stride):
            neighbour = pixel + step
            if labels[neighbour] == 0:
                labels[neighbour] = labels[pixel]
                if _can_grow(labels, neighbour, stride):
                    lower = min(level, np.int64(heights[neighbour]))
                    _push(first, last, following, lower, neighbour)


@kernel
def _can_grow(labels: NDArray[np.int32], pixel: int, stride: int) -> bool:
    """Tell whether a neighbour waits for a label: a pixel without one need not be queued."""
    return bool(
        (labels[pixel - stride] == 0)
        | (labels[pixel - 1] == 0)
        | (labels[pixel + 1] == 0)
        | (labels[pixel + stride] == 0)
    )


@kernel
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
