"""What the model sees of a stream's values, as of a slide's: from samples of its newest frames.

A slide is normalized once, by percentiles of all of it, and a stain that is painted in one colour
is found in all of it. A frame alone would stretch what little there is in an empty field until
noise looks like cells, and flicker from field to field. So samples of earlier frames count, too,
and fade: after ``memory`` frames to a third. Whether a stain is painted changes only when that has
been so for many frames in a row; then it is another scene, and what came before is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.runtime.view.normalize import Intensities, full_range, intensities_in
from cellseg.runtime.view.painted_stain import painted_channel, sum_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.view.normalize import Normalize

__all__ = ["StreamIntensities"]

_BAND_SAMPLES = 1 << 22  # OpenCV counts in float32, exact up to 2**24
_SAMPLED_PX = 1 << 17
_CORRELATED_PX = 1 << 14
_SCALE = 1024.0  # parts of a sample that still count
_PATIENCE = 8  # one in so many frames of the memory


class StreamIntensities:
    """Percentiles and the painted channel of a stream of frames of one dtype and channel.

    Parameters
    ----------
    wanted : Normalize
        What the bundle asks for.
    dtype : dtype
        uint8 or uint16.
    memory : int
        Frames that count; 1: each frame is seen for itself.
    value_range : (float, float), optional
        Values that become 0 and 255; None: measured.

    Examples
    --------
    >>> from cellseg.runtime.view.normalize import Normalize
    >>> stream = StreamIntensities(Normalize("slide-percentile"), np.dtype(np.uint8), memory=8)
    >>> for frame in ([[10, 90]], [[30, 40]]):
    ...     print(stream.add(np.array(frame, np.uint8)).value_range)
    (10.0, 90.0)
    (10.0, 90.0)
    """

    def __init__(
        self,
        wanted: Normalize,
        dtype: np.dtype[Any],
        memory: int,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        self._wanted, self._dtype, self._range = wanted, dtype, value_range
        self._kept = 1.0 - 1.0 / memory
        self._patience = max(1, memory // _PATIENCE)
        self._begin()

    def add(self, samples: NDArray[Any]) -> Intensities:
        """Count the samples of a frame, (H, W) or (H, W, 3); return what is seen in it."""
        if self._wanted.kind == "none":
            return Intensities(self._range or full_range(self._dtype))
        # Of a large frame some rows will do: of so many samples, percentiles are what they were.
        rows = samples[:: max(1, samples.shape[0] * samples.shape[1] // _SAMPLED_PX)]
        self._count(rows)
        whole = np.rint(self._counts * _SCALE).astype(np.int64)
        if len(whole) == 3 and whole[:, 1:].any():  # of black frames nothing can be said
            found = painted_channel(whole, lambda: self._products_with(rows))
            if self._is_another_scene(found):
                self._begin()
                return self.add(samples)
        if self._range is not None:
            return Intensities(self._range, self._channel)
        return intensities_in(whole, self._wanted, self._channel)

    def _begin(self) -> None:
        """Know nothing of any frame."""
        self._counts: NDArray[np.float64] = np.zeros((1, 1), np.float64)
        self._products: NDArray[np.float64] = np.zeros((4, 4))
        self._channel: int | None = None
        self._frames, self._otherwise = 0, 0

    def _is_another_scene(self, found: int | None) -> bool:
        """Take what was found while the stream is young; later, say whether it has lasted."""
        self._frames += 1
        if self._frames <= self._patience:
            self._channel = found
        self._otherwise = 0 if found == self._channel else self._otherwise + 1
        return self._otherwise >= self._patience

    def _count(self, rows: NDArray[Any]) -> None:
        self._make_room(rows)
        self._counts *= self._kept
        found = [self._histogram(rows, channel) for channel in range(rows[0, 0].size)]
        self._counts += np.stack(found)

    def _make_room(self, rows: NDArray[Any]) -> None:
        """Hold no more than is needed: 16-bit cameras use few of their values, many no colours."""
        if rows.ndim == 3 and len(self._counts) == 1:
            self._counts = np.repeat(self._counts, 3, axis=0)
        more = int(rows.max()) + 1 - self._counts.shape[1]
        if more > 0:
            self._counts = np.pad(self._counts, ((0, 0), (0, more)))

    def _histogram(self, rows: NDArray[Any], channel: int) -> NDArray[np.float64]:
        if rows.ndim == 3 and rows.dtype == np.uint16:  # side by side is several times slower
            rows, channel = cv2.extractChannel(rows, channel), 0
        values, band = self._counts.shape[1], max(1, _BAND_SAMPLES // rows[0].size)
        counts = np.zeros(values)
        for start in range(0, len(rows), band):
            seen = [rows[start : start + band]]
            counts += cv2.calcHist(seen, [channel], None, [values], [0, values]).ravel()
        return counts

    def _products_with(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Return products of what two channels hold, of the frames in which that mattered."""
        if rows.ndim == 2:
            rows = np.repeat(rows[..., np.newaxis], 3, axis=2)
        few = rows[:, :: max(1, rows.shape[0] * rows.shape[1] // _CORRELATED_PX)]
        self._products = self._products * self._kept + sum_products([few])
        return self._products
