"""Intensity range: which input values become 0 and 255 in what the model sees.

One range holds for the whole image or slide, never for one tile, because a range that changes from
tile to tile makes seams that no halo mends. It is measured once, by counting (`value_counts`);
so is the channel of a stain that is painted in one colour (`painted_stain`). Training calls the
same functions on its images.

``none`` keeps the full range of the dtype: uint8 as it is, uint16 by its high byte.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellseg.errors import SlideError
from cellseg.runtime.kernels import LOADED
from cellseg.runtime.view.painted_stain import COLOURS, painted_channel, sum_products
from cellseg.runtime.view.value_counts import (
    count_image,
    count_samples,
    range_from_counts,
    samples,
    value_count,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cellseg.runtime.slides.slide import Slide

__all__ = [
    "Intensities",
    "Normalize",
    "apply_lut",
    "build_lut",
    "full_range",
    "intensities_in",
    "intensities_of",
    "measure_image",
    "measure_slide",
    "take_channel",
]


@dataclass(frozen=True)
class Intensities:
    """What of an image's values the model sees."""

    value_range: tuple[float, float]
    """Values that become 0 and 255."""

    channel: int | None = None
    """The channel that shows a stain painted in one colour, which the model sees as grey; None:
    colours as they are."""

    def as_dict(self) -> dict[str, Any]:
        """Return ``low``, ``high`` and the channel's name as JSON values."""
        low, high = self.value_range
        channel = None if self.channel is None else COLOURS[self.channel]
        return {"low": low, "high": high, "channel": channel}

    def seen(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Return an image (H, W, 3) as the model sees it."""
        return take_channel(image, build_lut(self.value_range, image.dtype), self.channel)


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


def full_range(dtype: np.dtype[Any] | type[Any]) -> tuple[float, float]:
    """Return the range that stands for "not normalized": (0, 255) or (0, 65535)."""
    return 0.0, float(value_count(dtype) - 1)


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
    values = np.arange(value_count(dtype))
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
    if lut.size != value_count(image.dtype):
        raise SlideError(
            "Table and image must belong together: 256 entries for uint8, 65536 for uint16. "
            f"Received: entries={lut.size}, dtype={image.dtype}."
        )
    if image.dtype == np.uint8 and np.array_equal(lut, np.arange(256)):
        return image
    if image.size == 0:
        return np.empty(image.shape, np.uint8)
    mapped = _looked_up if LOADED.is_set() else _mapped
    return np.reshape(mapped(np.ascontiguousarray(image).reshape(-1), lut), image.shape)


def _mapped(values: NDArray[Any], lut: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Map a row of values without a kernel of ours."""
    if values.dtype != np.uint8:
        return np.asarray(lut[values])
    import cv2

    # OpenCV looks bytes up about ten times faster than numpy's fancy indexing.
    return np.asarray(cv2.LUT(values[np.newaxis], lut), np.uint8).reshape(-1)


def _looked_up(values: NDArray[Any], lut: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Map a row of values, bytes two at once: two to six times as fast.

    See ``bench/value_tables.py``.
    """
    from cellseg.runtime.kernels.lookup import look_up

    found = np.empty(values.shape, np.uint8)
    if values.dtype == np.uint16:
        look_up(values, lut, found)
        return found
    even = values.size // 2 * 2
    pairs = values[:even].view(np.uint16)
    if not pairs.flags.aligned:
        return _mapped(values, lut)
    look_up(pairs, _pairs(lut.tobytes()), found[:even].view(np.uint16))
    found[even:] = lut[values[even:]]
    return found


@functools.lru_cache(maxsize=8)
def _pairs(lut: bytes) -> NDArray[np.uint16]:
    """Tabulate two bytes side by side."""
    both = np.arange(1 << 16, dtype=np.uint16)
    return np.frombuffer(lut, np.uint8)[both.view(np.uint8)].view(np.uint16)


def take_channel(
    image: NDArray[Any], lut: NDArray[np.uint8], channel: int | None
) -> NDArray[np.uint8]:
    """Map an image (H, W, 3) through a table; of a single channel make grey."""
    if channel is None:
        return apply_lut(image, lut)
    grey = apply_lut(np.ascontiguousarray(image[..., channel]), lut)
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)


def measure_slide(slide: Slide, normalize: Normalize) -> Intensities:
    """Measure what of its values the model sees, once for a whole slide.

    Parameters
    ----------
    slide : Slide
        Any size; see :func:`count_samples`.
    normalize : Normalize
        What to measure. ``none`` reads nothing.

    Returns
    -------
    Intensities
        See :func:`intensities_of`.
    """
    if normalize.kind == "none":
        return Intensities(full_range(slide.dtype))
    return intensities_of(count_samples(slide), normalize, lambda: sum_products(samples(slide)))


def measure_image(image: NDArray[Any], normalize: Normalize) -> Intensities:
    """Measure an image (H, W, 3) in memory, all of it; see :func:`measure_slide`."""
    if normalize.kind == "none":
        return Intensities(full_range(image.dtype))
    return intensities_of(count_image(image), normalize, lambda: sum_products([image]))


def intensities_of(
    counts: NDArray[np.int64],
    normalize: Normalize,
    products: Callable[[], NDArray[np.float64]],
) -> Intensities:
    """Find the percentiles of all channels together, or of the one that shows a painted stain.

    A stain that is painted in one colour is the same picture as a grey one, and models learn from
    grey ones: the channels that hold less of it, or nothing, neither count nor are seen.

    Parameters
    ----------
    counts : int64, shape (3, n)
        From :func:`count_samples`.
    normalize : Normalize
        Its percentiles.
    products : callable
        See :func:`cellseg.runtime.view.painted_stain.painted_channel`.
    """
    return intensities_in(counts, normalize, painted_channel(counts, products))


def intensities_in(
    counts: NDArray[np.int64], normalize: Normalize, channel: int | None
) -> Intensities:
    """Find the percentiles of one channel, or of all together; see :func:`intensities_of`."""
    counted = counts.sum(0) if channel is None else counts[channel]
    return Intensities(range_from_counts(counted, normalize.low, normalize.high), channel)


def _check_percentiles(low: float, high: float) -> None:
    if not 0 <= low < high <= 100:
        raise SlideError(
            f"Percentiles must satisfy 0 <= low < high <= 100. Received: low={low}, high={high}."
        )
