"""A scan so far, small enough to look at: the slide as it grows, and its class map.

Frames are put where they are thought to lie, newer ones over older ones; nothing is segmented
again. What there is gets coarser by halves as the scan grows past the largest picture.
"""

from __future__ import annotations

import math
from threading import Lock
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.live.painter import FILL, as_rgb8, value_range
from cellseg.runtime.kernels.palette import paint

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MosaicPreview"]

_SIDE_PX = 2048
_OUTLINE = 256
_BRIGHT_FROM = 128


class MosaicPreview:
    """Pictures of a growing mosaic. Any thread may show, any may look.

    Parameters
    ----------
    palette : tuple of (red, green, blue)
        Colour of each class, background first.
    side_px : int
        Largest side of the picture.

    Attributes
    ----------
    version : int
        Grows with each change.
    scale : int
        Pixels of a frame per pixel of the picture, a power of two.
    """

    def __init__(self, palette: tuple[tuple[int, int, int], ...], side_px: int = _SIDE_PX) -> None:
        self._palette, self._side_px = np.array(palette, np.uint8), side_px
        self.version, self.scale = 0, 1
        self._lock = Lock()
        self._start: NDArray[np.int64] = np.zeros(2, np.int64)
        self._stop: NDArray[np.int64] = np.zeros(2, np.int64)
        self._rgb = np.zeros((0, 0, 3), np.uint8)
        self._classes = np.zeros((0, 0), np.uint8)
        self._values: tuple[int, int] | None = None
        self._ground = 0

    def show_frame(self, pixels: NDArray[Any], yx: tuple[float, float]) -> None:
        """Put a frame where it lies.

        Parameters
        ----------
        pixels : array
            As a camera gives it.
        yx : (float, float)
            Its top-left corner, in pixels of frames; may be negative.
        """
        with self._lock:
            low, high = value_range(pixels)
            known = self._values or (low, high)
            self._values = min(low, known[0]), max(high, known[1])
            rgb = as_rgb8(pixels, self._values)
            if not self._rgb.size:
                self._ground = 255 if np.median(rgb[::8, ::8]) >= _BRIGHT_FROM else 0
            (y, x), hw = self._make_room(yx, rgb.shape[:2])
            small = cv2.resize(rgb, hw[::-1], interpolation=cv2.INTER_AREA)
            self._rgb[y : y + hw[0], x : x + hw[1]] = small
            self.version += 1

    def show_classes(self, classes: NDArray[np.uint8], yx: tuple[float, float]) -> None:
        """Put a frame's class map where the frame lies."""
        with self._lock:
            (y, x), hw = self._make_room(yx, classes.shape)
            small = cv2.resize(classes, hw[::-1], interpolation=cv2.INTER_NEAREST)
            self._classes[y : y + hw[0], x : x + hw[1]] = small
            self.version += 1

    def classes(self) -> NDArray[np.uint8]:
        """Return the class map, uint8 (h, w)."""
        with self._lock:
            return self._classes.copy()

    def overlay(self) -> NDArray[np.uint8]:
        """Return the slide with its classes painted on, uint8 (h, w, 3)."""
        with self._lock:
            rgb, classes = self._rgb.copy(), self._classes.copy()
        paint(rgb, classes, classes, self._palette, FILL, _OUTLINE, 1)
        return rgb

    def _make_room(
        self, yx: tuple[float, float], hw: tuple[int, ...]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Let the picture reach over a window; return where it lies in it, and how large."""
        start = np.floor(yx).astype(np.int64)
        stop = start + hw
        if not self._rgb.size:
            self._start, self._stop = start, start
        low, high = np.minimum(self._start, start), np.maximum(self._stop, stop)
        if not self._rgb.size or (low < self._start).any() or (high > self._stop).any():
            self._grow(low, high)
        y, x = ((start - self._start) // self.scale).tolist()
        height, width = (max(1, round(side / self.scale)) for side in hw)
        rows, columns = self._classes.shape
        return (y, x), (min(height, rows - y), min(width, columns - x))

    def _grow(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> None:
        scale = self.scale
        while (high - low).max() > scale * self._side_px:
            scale *= 2
        factor, before = scale // self.scale, (self._rgb, self._classes, self._start)
        start = low // scale * scale
        height, width = (math.ceil(side / scale) + 1 for side in (high - start).tolist())
        self._rgb = np.full((height, width, 3), self._ground, np.uint8)
        self._classes = np.zeros((height, width), np.uint8)
        if before[0].size:
            y, x = ((before[2] - start) // scale).tolist()
            self._paste(before[0], before[1], factor, (y, x))
        self.scale, self._start, self._stop = scale, start, high

    def _paste(
        self, rgb: NDArray[np.uint8], classes: NDArray[np.uint8], factor: int, yx: tuple[int, int]
    ) -> None:
        """Put the picture before into the larger one."""
        (rows, columns), (y, x) = self._classes.shape, yx
        h = min(max(1, classes.shape[0] // factor), rows - y)
        w = min(max(1, classes.shape[1] // factor), columns - x)
        small = cv2.resize(rgb, (w, h), interpolation=cv2.INTER_AREA) if factor > 1 else rgb
        self._rgb[y : y + h, x : x + w] = small[:h, :w]
        self._classes[y : y + h, x : x + w] = classes[::factor, ::factor][:h, :w]
