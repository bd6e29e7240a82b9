"""How often each value occurs in a slide or an image, and the percentiles of that.

Percentiles come from exact counts, so that they are the same integers on every machine, for any
tile size and any number of threads.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import SlideError
from cellseg.runtime.slides.source_tiles import was_filled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cellseg.runtime.slides.slide import Slide

__all__ = ["count_image", "count_samples", "range_from_counts", "samples", "value_count"]

_Window = tuple[int, tuple[int, int], tuple[int, int]]  # level, origin, height and width

_WHOLE_IMAGE_PX = 4_000_000
_LEVEL_MIN_PX = 1_000_000
_LEVEL_MAX_PX = 32_000_000
_BAND_PX = 4_000_000
_COUNT_SAMPLES = 1_000_000
_GRID_WINDOWS = 16
_GRID_WINDOW_PX = 256


def count_image(image: NDArray[Any]) -> NDArray[np.int64]:
    """Count how often each value occurs in each channel of an image (H, W, 3) in memory.

    Returns
    -------
    int64, shape (3, 256) or (3, 65536)
        Red, green and blue.
    """
    return np.stack([_count(image[..., channel]) for channel in range(3)])


def count_samples(slide: Slide) -> NDArray[np.int64]:
    """Count how often each value occurs in each channel of a slide.

    The samples are the whole image up to 4 megapixels; else the lowest-resolution level that still
    has a megapixel; and where that one is too large to read whole (no pyramid), a fixed grid of
    windows on it. Where damaged tiles of it were filled, a finer level is taken, if one is whole.

    Parameters
    ----------
    slide : Slide
        Any size; at most a band of 4 megapixels is held at a time.

    Returns
    -------
    int64, shape (3, 256) or (3, 65536)
        Red, green and blue.
    """
    windows, found = None, _sample_windows(slide)
    while windows != found:  # until none of them turns out to be damaged
        windows = found
        counts = np.zeros((3, value_count(slide.dtype)), np.int64)
        for window in samples(slide):
            counts += count_image(window)
        found = _sample_windows(slide)
    return counts


def samples(slide: Slide) -> Iterator[NDArray[Any]]:
    """Yield the windows (h, w, 3) that :func:`count_samples` counts."""
    for level, yx, hw in _sample_windows(slide):
        yield slide.read_region(level, yx, hw)


def _sample_windows(slide: Slide) -> list[_Window]:
    """Return the windows that are counted: of the coarsest level that is not known as damaged."""
    for level in range(_sample_level(slide), -1, -1):
        windows = list(_windows_of(slide, level))
        if not any(was_filled(slide, *window) for window in windows):
            break
    return windows


def _windows_of(slide: Slide, level: int) -> Iterator[_Window]:
    height, width = slide.levels[level].height_px, slide.levels[level].width_px
    if height * width <= _LEVEL_MAX_PX:
        band_px = max(1, min(height, _BAND_PX // width))
        for y0 in range(0, height, band_px):
            yield level, (y0, 0), (min(band_px, height - y0), width)
        return
    for y0, h in _grid_spans(height):
        for x0, w in _grid_spans(width):
            yield level, (y0, x0), (h, w)


def _sample_level(slide: Slide) -> int:
    areas = [level.width_px * level.height_px for level in slide.levels]
    if areas[0] <= _WHOLE_IMAGE_PX:
        return 0
    return min(
        (index for index, area in enumerate(areas) if area >= _LEVEL_MIN_PX),
        key=lambda index: areas[index],
    )


def _grid_spans(extent_px: int) -> list[tuple[int, int]]:
    """Spread windows evenly over an axis, on multiples of their size so that few tiles are read."""
    cells = -(-extent_px // _GRID_WINDOW_PX)
    picked = sorted({(cells - 1) * i // (_GRID_WINDOWS - 1) for i in range(_GRID_WINDOWS)})
    origins = (cell * _GRID_WINDOW_PX for cell in picked)
    return [(start, min(_GRID_WINDOW_PX, extent_px - start)) for start in origins]


def _count(image: NDArray[Any]) -> NDArray[np.int64]:
    """Count the samples of each value; in pieces, because bincount widens what it is given."""
    counts = np.zeros(value_count(image.dtype), np.int64)
    samples = image.reshape(-1)
    for start in range(0, samples.size, _COUNT_SAMPLES):
        piece = samples[start : start + _COUNT_SAMPLES]
        counts += np.bincount(piece, minlength=counts.size)
    return counts


def range_from_counts(counts: NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    """Find two percentiles from how often each value occurs.

    The percentile p of n samples is the smallest value that at least ``ceil(p / 100 * n)`` of them
    (and at least one) do not exceed: a value that occurs.

    Examples
    --------
    >>> range_from_counts(np.ones(101, np.int64), 1, 99)
    (1.0, 99.0)
    """
    below = np.cumsum(counts)
    total = int(below[-1])
    if total == 0:
        raise SlideError("An intensity range needs at least one sample. Received: samples=0.")
    ranks = [min(total, max(1, math.ceil(p * total / 100))) for p in (low, high)]
    low_value, high_value = np.searchsorted(below, ranks, side="left")
    return float(low_value), float(high_value)


def value_count(dtype: np.dtype[Any] | type[Any]) -> int:
    """Return how many values a dtype has.

    Raises
    ------
    SlideError
        If it is neither uint8 nor uint16.
    """
    counts = {np.dtype(np.uint8): 256, np.dtype(np.uint16): 65536}
    count = counts.get(np.dtype(dtype))
    if count is None:
        raise SlideError(
            f"Images must hold uint8 or uint16. Received: dtype={np.dtype(dtype)}.",
            hint="Scale the image to one of the two before you pass it.",
        )
    return count
