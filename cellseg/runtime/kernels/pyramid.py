"""Half-size images, labels by the commonest, colours and shades by the mean; pixels by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["count_classes", "halve_labels", "halve_samples"]

_FEW_CLASSES = 16


@kernel
def count_classes(classes: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
    """Add the pixels of each class.

    Parameters
    ----------
    classes : uint8, shape (H, W)
        Class indices.
    counts : int64, shape (n,)
        Added to; classes from n on are not counted.

    Notes
    -----
    Few classes are looked for one after the other, by vector instructions. Many are counted run by
    run: neighbours are mostly of one class, and adding 1 to one counter over and over makes each
    addition wait for the one before.
    """
    if counts.size > _FEW_CLASSES:
        _count_runs(classes, counts)
        return
    for y in range(classes.shape[0]):
        row = classes[y]
        for index in range(counts.size):
            found = np.uint32(0)
            for x in range(row.size):
                found += np.uint32(row[x] == index)
            counts[index] += found


@kernel
def _count_runs(classes: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
    height, width = classes.shape
    for y in range(height):
        start = 0
        for x in range(1, width + 1):
            if x == width or classes[y, x] != classes[y, start]:
                if classes[y, start] < counts.size:
                    counts[classes[y, start]] += x - start
                start = x


@kernel
def halve_labels(labels: NDArray[Any], out: NDArray[Any]) -> None:
    """Write the commonest label of each 2 x 2 block; a tie goes to the first in reading order.

    Parameters
    ----------
    labels : unsigned integers, shape (H, W)
        Class indices or instance labels.
    out : same dtype, shape (ceil(H / 2), ceil(W / 2))
        Written. Blocks at an odd border have two pixels or one.

    Notes
    -----
    Mean or nearest? A mean makes labels that are not there. Nearest keeps one pixel in four and so
    drops thin parts and speckles by chance; the commonest label does so only where they are a
    minority. Giving ties to the foreground would make it grow by a quarter of a pixel a level on
    every side; the first in reading order favours no class.
    """
    height, width = labels.shape
    for y in range(out.shape[0]):
        top, bottom, row = labels[2 * y], labels[min(2 * y + 1, height - 1)], out[y]
        # Choices instead of branches, and no look at the border: vector instructions.
        for x in range(width // 2):
            a, b, c, d = top[2 * x], top[2 * x + 1], bottom[2 * x], bottom[2 * x + 1]
            # A label that occurs twice is outvoted by none: the fourth cannot make a pair with it.
            other = b if (b == c) | (b == d) else (c if c == d else a)
            row[x] = a if (a == b) | (a == c) | (a == d) else other
        if width % 2:
            row[width // 2] = top[width - 1]


@kernel
def halve_samples(samples: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Write the mean of each 2 x 2 block, rounded half up.

    Parameters
    ----------
    samples : uint8, shape (H, W, C)
        Colours or shades of grey.
    out : uint8, shape (ceil(H / 2), ceil(W / 2), C)
        Written. Blocks at an odd border have two pixels or one.
    """
    height, width, channels = samples.shape
    for y in range(out.shape[0]):
        y1 = min(2 * y + 1, height - 1)
        for x in range(out.shape[1]):
            x1 = min(2 * x + 1, width - 1)
            for channel in range(channels):
                total = np.uint32(samples[2 * y, 2 * x, channel])
                total += np.uint32(samples[2 * y, x1, channel])
                total += np.uint32(samples[y1, 2 * x, channel])
                total += np.uint32(samples[y1, x1, channel])
                out[y, x, channel] = (total + np.uint32(2)) >> np.uint32(2)
