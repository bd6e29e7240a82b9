"""From one tile's probabilities to the classes of what it keeps.

Sums run over channels in their order and in float32, so that a pixel's class depends on nothing but
its own probabilities. Ties go to the lower class index: background before everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["blank_outside", "decide_by_argmax", "decide_by_threshold", "grey_foreground"]


@kernel
def decide_by_argmax(
    probabilities: NDArray[np.float32],
    y0: int,
    x0: int,
    channel_class: NDArray[np.int64],
    class_count: int,
    out: NDArray[np.uint8],
) -> None:
    """Write the most probable class of each kept pixel.

    Parameters
    ----------
    probabilities : float32, shape (h, w, C)
        One tile's output.
    y0, x0 : int
        Where the kept part begins in the tile.
    channel_class : int64, shape (C,)
        Class that a channel adds to; -1 for channels that are no probability.
    class_count : int
        Number of classes, background included.
    out : uint8, shape (kh, kw)
        Class index of each kept pixel; written.
    """
    sums = np.empty((class_count, out.shape[1]), np.float32)
    likeliest = np.empty(out.shape[1], np.float32)
    for y in range(out.shape[0]):
        _sum_classes(probabilities[y0 + y, x0:], channel_class, sums)
        _find_likeliest(sums, np.int64(0), likeliest)
        _write_row(likeliest, out[y])


@kernel
def decide_by_threshold(
    probabilities: NDArray[np.float32],
    y0: int,
    x0: int,
    channel_class: NDArray[np.int64],
    class_count: int,
    threshold: np.float32,
    out: NDArray[np.uint8],
) -> None:
    """Write the most probable foreground class where it reaches a threshold, else background.

    Parameters
    ----------
    probabilities, y0, x0, channel_class, class_count, out
        As in `decide_by_argmax`.
    threshold : float32
        Least probability of foreground.
    """
    sums = np.empty((class_count, out.shape[1]), np.float32)
    likeliest = np.empty(out.shape[1], np.float32)
    for y in range(out.shape[0]):
        _sum_classes(probabilities[y0 + y, x0:], channel_class, sums)
        _find_likeliest(sums, np.int64(1), likeliest)
        _raise_to(sums[class_count - 1], sums[1])
        _blank_below(sums[1], threshold, likeliest)
        _write_row(likeliest, out[y])


@kernel
def grey_foreground(
    probabilities: NDArray[np.float32],
    y0: int,
    x0: int,
    channel_class: NDArray[np.int64],
    class_count: int,
    exclusive: bool,
    out: NDArray[np.uint8],
) -> None:
    """Write the probability of foreground of each kept pixel in shades of grey.

    Parameters
    ----------
    probabilities, y0, x0, channel_class, class_count
        As in `decide_by_argmax`.
    exclusive : bool
        Whether the classes exclude each other: their sum counts then, else the likeliest.
    out : uint8, shape (kh, kw)
        ``floor(255 * p + 0.5)`` with p clipped to 0..1; written.
    """
    sums = np.empty((class_count, out.shape[1]), np.float32)
    for y in range(out.shape[0]):
        _sum_classes(probabilities[y0 + y, x0:], channel_class, sums)
        for x in range(out.shape[1]):
            sure = np.float32(0)
            for index in range(1, class_count):
                sure = sure + sums[index, x] if exclusive else max(sure, sums[index, x])
            sure = min(max(sure, np.float32(0)), np.float32(1))
            out[y, x] = np.uint8(sure * np.float32(255) + np.float32(0.5))


@kernel
def _sum_classes(
    row: NDArray[np.float32], channel_class: NDArray[np.int64], sums: NDArray[np.float32]
) -> None:
    """Add the channels of a row up by class: channel by channel is five times faster."""
    sums[:] = np.float32(0)
    for channel in range(channel_class.size):
        index = channel_class[channel]
        if index < 0:
            continue
        total = sums[index]
        for x in range(total.size):
            total[x] += row[x, channel]


@kernel
def _find_likeliest(sums: NDArray[np.float32], first: int, likeliest: NDArray[np.float32]) -> None:
    """Write the index of each pixel's largest sum from ``first`` on.

    The first row becomes the largest of all rows but the last.
    """
    best = sums[first]
    likeliest[:] = np.float32(first)
    for index in range(first + 1, sums.shape[0]):
        if index > first + 1:
            _raise_to(sums[index - 1], best)
        _rename_where_larger(sums[index], best, np.float32(index), likeliest)


@kernel
def _rename_where_larger(
    values: NDArray[np.float32],
    best: NDArray[np.float32],
    name: np.float32,
    names: NDArray[np.float32],
) -> None:
    for x in range(values.size):
        names[x] = name if values[x] > best[x] else names[x]


@kernel
def _raise_to(values: NDArray[np.float32], best: NDArray[np.float32]) -> None:
    for x in range(values.size):
        best[x] = values[x] if values[x] > best[x] else best[x]


@kernel
def _blank_below(
    best: NDArray[np.float32], threshold: np.float32, names: NDArray[np.float32]
) -> None:
    for x in range(best.size):
        names[x] = names[x] if best[x] >= threshold else np.float32(0)


@kernel
def _write_row(row: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    for x in range(out.size):
        out[x] = np.uint8(np.int32(row[x]))


@kernel
def blank_outside(
    classes: NDArray[np.uint8],
    y0: int,
    x0: int,
    mask: NDArray[np.bool_],
    wl_per_mask_y: float,
    wl_per_mask_x: float,
) -> None:
    """Set pixels whose centre lies outside a low-resolution mask to background.

    Parameters
    ----------
    classes : uint8, shape (h, w)
        Part of a class map; written in place.
    y0, x0 : int
        Its top-left corner in pixels of the working level.
    mask : bool, shape (mh, mw)
        True inside.
    wl_per_mask_y, wl_per_mask_x : float
        Working-level pixels per mask pixel.
    """
    for y in range(classes.shape[0]):
        mask_y = min(int((y0 + y + 0.5) / wl_per_mask_y), mask.shape[0] - 1)
        for x in range(classes.shape[1]):
            mask_x = min(int((x0 + x + 0.5) / wl_per_mask_x), mask.shape[1] - 1)
            if not mask[mask_y, mask_x]:
                classes[y, x] = 0
