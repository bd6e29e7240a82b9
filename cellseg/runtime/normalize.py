"""Intensity range: which input values become 0 and 255 in what the model sees.

One range holds for the whole image or slide, never for one tile, because a range that changes from
tile to tile makes seams that no halo mends. The range is measured once, by counting: percentiles
come from an exact histogram, so that they are the same integers on every machine, for any tile size
and any number of threads. Training calls the same functions on its images.

``none`` keeps the full range of the dtype: uint8 as it is, uint16 by its high byte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellseg.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cellseg.runtime.slide import Slide

__all__ = [
    "Normalize",
    "apply_lut",
    "build_lut",
    "full_range",
    "measure_range",
    "percentile_range",
    "range_from_counts",
]

_WHOLE_IMAGE_PX = 4_000_000
_LEVEL_MIN_PX = 1_000_000
_LEVEL_MAX_PX = 32_000_000
_BAND_PX = 4_000_000
_COUNT_SAMPLES = 1_000_000
_GRID_WINDOWS = 16
_GRID_WINDOW_PX = 256


@dataclass(frozen=True)
class Normalize:
    """How the intensity range of an input is found."""

    kind: Literal["none", "slide-percentile"] = "none"
    """``none``: the dtype's full range. ``slide-percentile``: two percentiles of all samples."""

    low: float = 0.0
    """Percentile that becomes 0."""

    high: float = 100.0
    """Percentile that becomes 255."""

    def __post_init__(self) -> None:
        if self.kind not in ("none", "slide-percentile"):
            raise SlideError(
                "Normalize kind must be 'none' or 'slide-percentile'. "
                f"Received: kind={self.kind!r}."
            )
        _check_percentiles(self.low, self.high)


def percentile_range(image: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """Find the values at two percentiles of an image, over all pixels and channels together.

    Parameters
    ----------
    image : uint8 or uint16, any shape
        At least one sample.
    low, high : float
        Percentiles, ``0 <= low < high <= 100``. The percentile p of n samples is the smallest value
        that at least ``ceil(p / 100 * n)`` samples (and at least one) do not exceed.

    Returns
    -------
    (float, float)
        Two values that occur in the image.

    Raises
    ------
    SlideError
        If the image is empty or of another dtype, or the percentiles are out of order.

    Examples
    --------
    >>> percentile_range(np.arange(101, dtype=np.uint8), 1, 99)
    (1.0, 99.0)
    """
    _check_percentiles(low, high)
    return range_from_counts(_count(image), low, high)


def full_range(dtype: np.dtype[Any] | type[Any]) -> tuple[float, float]:
    """Return the range that stands for "not normalized": (0, 255) or (0, 65535)."""
    return 0.0, float(_level_count(dtype) - 1)


def build_lut(
    value_range: tuple[float, float], dtype: np.dtype[Any] | type[Any]
) -> NDArray[np.uint8]:
    """Tabulate the mapping from input values to the model's uint8.

    Parameters
    ----------
    value_range : (float, float)
        Values that become 0 and 255; what lies outside is clipped. A width below 1 counts as 1, so
        that a blank image stays blank.
    dtype : dtype
        uint8 or uint16: dtype of the images the table is for.

    Returns
    -------
    uint8, shape (256,) or (65536,)
        ``round(255 * (v - low) / (high - low))``; for the full range the identity (uint8) or the
        high byte (uint16).

    Raises
    ------
    SlideError
        If the dtype is another one.
    """
    low, high = value_range
    values = np.arange(_level_count(dtype))
    if (low, high) == full_range(dtype):
        return np.asarray(values >> (0 if values.size == 256 else 8), np.uint8)
    unit = np.clip((values - low) / max(high - low, 1.0), 0.0, 1.0)
    return np.asarray(np.floor(unit * 255.0 + 0.5), np.uint8)


def apply_lut(image: NDArray[Any], lut: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Map an image through a table of :func:`build_lut`.

    Parameters
    ----------
    image : uint8 or uint16, any shape
        Of the dtype the table was built for.
    lut : uint8, shape (256,) or (65536,)
        The table.

    Returns
    -------
    uint8, same shape
        A new array, or ``image`` itself where the table is the identity.

    Raises
    ------
    SlideError
        If table and dtype do not belong together.
    """
    if lut.size != _level_count(image.dtype):
        raise SlideError(
            "Table and image must belong together: 256 entries for uint8, 65536 for uint16. "
            f"Received: entries={lut.size}, dtype={image.dtype}."
        )
    if image.dtype == np.uint8 and np.array_equal(lut, np.arange(256)):
        return image
    if image.dtype != np.uint8 or image.size == 0:
        mapped: NDArray[np.uint8] = lut[image]
        return mapped
    import cv2

    # OpenCV looks bytes up about ten times faster than numpy's fancy indexing.
    flat = np.ascontiguousarray(image).reshape(1, -1)
    return np.asarray(cv2.LUT(flat, lut), np.uint8).reshape(image.shape)


def measure_range(slide: Slide, normalize: Normalize) -> tuple[float, float]:
    """Measure the values that become 0 and 255, once for a whole slide.

    The samples are the whole image up to 4 megapixels; else the lowest-resolution level that still
    has a megapixel; and where that one is too large to read whole (no pyramid), a fixed grid of
    windows on it.

    Parameters
    ----------
    slide : Slide
        Any size; at most a band of 4 megapixels is held at a time.
    normalize : Normalize
        What to measure. ``none`` reads nothing.

    Returns
    -------
    (float, float)
        Argument for :func:`build_lut`.
    """
    if normalize.kind == "none":
        return full_range(slide.dtype)
    counts = np.zeros(_level_count(slide.dtype), np.int64)
    for level, yx, hw in _sample_windows(slide):
        counts += _count(slide.read_region(level, yx, hw))
    return range_from_counts(counts, normalize.low, normalize.high)


def _sample_windows(slide: Slide) -> Iterator[tuple[int, tuple[int, int], tuple[int, int]]]:
    """Yield (level, origin, size) of the windows that are counted."""
    level = _sample_level(slide)
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
    counts = np.zeros(_level_count(image.dtype), np.int64)
    samples = image.reshape(-1)
    for start in range(0, samples.size, _COUNT_SAMPLES):
        piece = samples[start : start + _COUNT_SAMPLES]
        counts += np.bincount(piece, minlength=counts.size)
    return counts


def range_from_counts(counts: NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    """Find two percentiles, as `percentile_range`, from how often each value occurs."""
    below = np.cumsum(counts)
    total = int(below[-1])
    if total == 0:
        raise SlideError("An intensity range needs at least one sample. Received: samples=0.")
    ranks = [min(total, max(1, math.ceil(p * total / 100))) for p in (low, high)]
    low_value, high_value = np.searchsorted(below, ranks, side="left")
    return float(low_value), float(high_value)


def _level_count(dtype: np.dtype[Any] | type[Any]) -> int:
    counts = {np.dtype(np.uint8): 256, np.dtype(np.uint16): 65536}
    count = counts.get(np.dtype(dtype))
    if count is None:
        raise SlideError(
            f"Images must hold uint8 or uint16. Received: dtype={np.dtype(dtype)}.",
            hint="Scale the image to one of the two before you pass it.",
        )
    return count


def _check_percentiles(low: float, high: float) -> None:
    if not 0 <= low < high <= 100:
        raise SlideError(
            f"Percentiles must satisfy 0 <= low < high <= 100. Received: low={low}, high={high}."
        )
