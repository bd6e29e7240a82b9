"""What a frame needs besides a slide's kernels: into given arrays, in one pass each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel
from cellseg.runtime.kernels.interior import keep_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["gather", "laplacian_sums", "look_up", "measure_cells", "split_channels"]


@kernel
def look_up(image: NDArray[np.uint16], lut: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Map an image of one channel, (H, W), through a table of as many entries as its dtype has."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = lut[image[y, x]]


@kernel
def gather(
    source: NDArray[np.uint32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    out: NDArray[np.uint32],
) -> None:
    """Write ``source[rows[y], columns[x]]`` to ``out[y, x]``."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = source[rows[y], columns[x]]


@kernel
def split_channels(
    probabilities: NDArray[np.float32],
    interior_channel: int,
    threshold: float,
    sure: float,
    marks: bool,
    foreground: NDArray[np.uint8],
    interior: NDArray[np.uint8],
) -> None:
    """Write foreground (0 or 1) and what `keep_interior` keeps.

    Parameters
    ----------
    probabilities : float32, shape (H, W, C)
        Channel 0 is background.
    interior_channel : int
        Which channel seeds are taken from.
    threshold : float
        Foreground where ``1 - probabilities[..., 0]`` reaches it.
    sure, marks
        See `keep_interior`.
    foreground, interior : uint8, shape (H, W)
        Written.
    """
    least = np.float32(threshold)
    background = np.empty(foreground.shape[1], np.float32)
    inside = np.empty(foreground.shape[1], np.float32)
    for y in range(foreground.shape[0]):
        # Gathered first, the rest is vector instructions: half the time.
        for x in range(background.size):
            background[x] = probabilities[y, x, 0]
            inside[x] = probabilities[y, x, interior_channel]
        row = foreground[y]
        for x in range(row.size):
            row[x] = np.uint8(np.float32(1) - background[x] >= least)
        keep_row(inside, background, sure, marks, interior[y])


@kernel
def laplacian_sums(
    image: NDArray[np.uint8], channel: int, step: int, sums: NDArray[np.int64]
) -> None:
    """Add up the Laplacian of every so many rows of an image.

    Parameters
    ----------
    image : uint8, shape (H, W, C)
        Its border is left out.
    channel : int
        Which of its channels.
    step : int
        From one row that counts to the next.
    sums : int64, shape (3,)
        Number of values, their sum, and the sum of their squares; written.
    """
    above = np.empty(image.shape[1], np.int32)
    here, below = np.empty(above.size, np.int32), np.empty(above.size, np.int32)
    sums[:] = 0
    for y in range(1, image.shape[0] - 1, step):
        for x in range(image.shape[1]):
            above[x] = image[y - 1, x, channel]
            here[x] = image[y, x, channel]
            below[x] = image[y + 1, x, channel]
        total, squares = np.int64(0), np.int64(0)
        for x in range(1, image.shape[1] - 1):
            value = above[x] + below[x] + here[x - 1] + here[x + 1] - 4 * here[x]
            total += value
            squares += value * value
        sums[0] += image.shape[1] - 2
        sums[1] += total
        sums[2] += squares


@kernel
def measure_cells(
    labels: NDArray[np.uint32],
    classes: NDArray[np.uint8],
    sums: NDArray[np.int64],
    boxes: NDArray[np.int32],
    votes: NDArray[np.int32],
) -> None:
    """Add up what places and sizes of cells are computed from, run by run of a row.

    Parameters
    ----------
    labels : uint32, shape (H, W)
        Cells 1..n.
    classes : uint8, shape (H, W)
        Class of each pixel.
    sums : int64, shape (n, 3)
        Zeros on entry; pixels, sum of x, sum of y.
    boxes : int32, shape (n, 4)
        x0, y0, x1, y1, half open; on entry x0 and y0 are large, the others 0.
    votes : int32, shape (n, number of classes)
        Zeros on entry; pixels of each class.
    """
    for y in range(labels.shape[0]):
        row, kinds = labels[y], classes[y]
        stop = 0
        while stop < row.size:
            start, label = stop, row[stop]
            stop += 1
            while stop < row.size and row[stop] == label:
                stop += 1
            if label == 0:
                continue
            cell, width = np.int64(label) - 1, stop - start
            sums[cell, 0] += width
            sums[cell, 1] += (start + stop - 1) * width // 2
            sums[cell, 2] += y * width
            boxes[cell, 0] = min(boxes[cell, 0], start)
            boxes[cell, 1] = min(boxes[cell, 1], y)
            boxes[cell, 2] = max(boxes[cell, 2], stop)
            boxes[cell, 3] = max(boxes[cell, 3], y + 1)
            for x in range(start, stop):
                votes[cell, kinds[x]] += 1
