"""One intensity range for a stream, as for a slide: from the samples of its newest frames.

A slide is normalized once, by percentiles of all of it. A frame's own percentiles would stretch
what little there is in an empty field until noise looks like cells, and flicker from field to
field. So samples of earlier frames count, too, and fade: after ``memory`` frames to a third.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.runtime.normalize import full_range, range_from_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.manifest import NormalizeSpec

__all__ = ["StreamRange"]

_BAND_SAMPLES = 1 << 22  # OpenCV counts in float32, exact up to 2**24
_SAMPLED_PX = 1 << 17
_SCALE = 1024.0  # parts of a sample that still count


class StreamRange:
    """Percentiles of a stream of frames of one dtype and channel.

    Parameters
    ----------
    wanted : NormalizeSpec
        What the bundle asks for.
    dtype : dtype
        uint8 or uint16.
    memory : int
        Frames that count; 1: each frame has its own range.

    Examples
    --------
    >>> from cellseg.runtime.manifest import NormalizeSpec
    >>> stream = StreamRange(NormalizeSpec(kind="slide-percentile"), np.dtype(np.uint8), memory=8)
    >>> stream.add(np.array([[10, 90]], np.uint8)), stream.add(np.array([[30, 40]], np.uint8))
    ((10.0, 90.0), (10.0, 90.0))
    """

    def __init__(self, wanted: NormalizeSpec, dtype: np.dtype[Any], memory: int) -> None:
        self._wanted, self._dtype = wanted, dtype
        self._kept = 1.0 - 1.0 / memory
        self._counts = np.zeros(np.iinfo(dtype).max + 1, np.float64)

    def add(self, samples: NDArray[Any]) -> tuple[float, float]:
        """Count a frame's samples; return the values that become 0 and 255 in it."""
        if self._wanted.kind == "none":
            return full_range(self._dtype)
        self._counts *= self._kept
        # Of a large frame some rows will do: of so many samples, percentiles are what they were.
        step = max(1, samples.shape[0] * samples.shape[1] // _SAMPLED_PX)
        self._count(samples.reshape(samples.shape[0], -1)[::step])
        whole = np.rint(self._counts * _SCALE).astype(np.int64)
        return range_from_counts(whole, self._wanted.low, self._wanted.high)

    def _count(self, rows: NDArray[Any]) -> None:
        values, band = self._counts.size, max(1, _BAND_SAMPLES // rows.shape[1])
        for start in range(0, len(rows), band):
            seen = [rows[start : start + band]]
            self._counts += cv2.calcHist(seen, [0], None, [values], [0, values]).ravel()
