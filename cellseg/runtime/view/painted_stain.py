"""A stain that is painted in one colour: the same picture as a grey one, in one of three channels.

Microscopes save DAPI in blue and GFP in green, and models learn from grey fluorescence. Which
channel shows such a stain is settled here, for slides, images and frames of a camera alike.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.view.value_counts import range_from_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

__all__ = ["COLOURS", "empty_channels", "painted_channel", "painted_note", "sum_products"]

COLOURS = ("red", "green", "blue")
_PEAK = 99.8
_LEAST_OF_PEAK = 0.25
_ONE_HUE = 0.95


def painted_channel(
    counts: NDArray[np.int64], products: Callable[[], NDArray[np.float64]]
) -> int | None:
    """Return the fullest channel of an image in one hue; None for any other image.

    Parameters
    ----------
    counts : int64, shape (3, n)
        How often each value occurs in red, green and blue.
    products : callable
        Returns `sum_products` of what was counted; called where two channels hold something.
    """
    empty = empty_channels(counts)
    held = [channel for channel in range(3) if channel not in empty]
    if len(held) == 3 or (len(held) == 2 and _correlation(products(), *held) < _ONE_HUE):
        return None
    return max(held, key=lambda channel: int(counts[channel] @ np.arange(counts.shape[1])))


def painted_note(channel: int) -> str:
    """Say that a channel is seen as grey."""
    return f"a stain painted in one colour: its {COLOURS[channel]} is seen as grey"


def empty_channels(counts: NDArray[np.int64]) -> list[int]:
    """List the channels that hold next to nothing beside the fullest one.

    There are none in grey images nor in transmitted light, where all reach a like height.
    """
    peaks = [range_from_counts(channel, 0, _PEAK)[1] for channel in counts]
    return [channel for channel in range(3) if peaks[channel] < _LEAST_OF_PEAK * max(peaks)]


def sum_products(windows: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    """Add up the products of 1, red, green and blue with each other, over all pixels.

    Parameters
    ----------
    windows : iterable of uint8 or uint16, shape (h, w, 3)
        Parts of an image.

    Returns
    -------
    float64, shape (4, 4)
        What correlations of channels are computed from.
    """
    total = np.zeros((4, 4))
    for window in windows:
        rows = np.ones((4, window.shape[0] * window.shape[1]))
        rows[1:] = window.reshape(-1, 3).T
        total += rows @ rows.T
    return total


def _correlation(products: NDArray[np.float64], first: int, second: int) -> float:
    """Pearson's correlation of two channels; 0 where one does not vary."""
    mean = products / products[0, 0]
    spread = mean - np.outer(mean[0], mean[0])
    x, y = first + 1, second + 1
    scale = math.sqrt(max(0.0, spread[x, x] * spread[y, y]))
    return float(spread[x, y] / scale) if scale > 0 else 0.0
