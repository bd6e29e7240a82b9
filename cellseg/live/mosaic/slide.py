"""Placed frames, read as one slide: what the runtime segments when a scan is over.

Where frames overlap, a pixel is that of the frame whose border it is farthest from: seams run
through the middle of overlaps. What no frame shows is ground, bright or dark as the frames are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellseg.runtime.slides.slide import Level, check_window, rgb_from_samples

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MosaicSlide", "PlacedFrame"]

_BRIGHT_FROM = 0.5


@dataclass(frozen=True)
class PlacedFrame:
    """A frame on the disk, and where it lies."""

    path: Path
    """An ``.npy`` file, (h, w) or (h, w, C)."""

    yx: tuple[int, int]
    """Its top-left corner on the mosaic."""

    hw: tuple[int, int]
    """Its height and width."""

    frame_id: int
    """Its number."""


class MosaicSlide:
    """A slide made of frames. See `cellseg.runtime.slides.slide.Slide`.

    Parameters
    ----------
    path : Path
        Of the file that it will be written to, for messages and records.
    frames : list of PlacedFrame
        At least one, all of one dtype; corners at 0 or more.
    mpp : float, optional
        Microns per pixel.
    brightness : float
        Median brightness of the frames, 0..1: decides the ground.
    """

    def __init__(
        self, path: Path, frames: list[PlacedFrame], mpp: float | None, brightness: float
    ) -> None:
        self.path = str(path)
        self._frames = frames
        self._corners = np.array([frame.yx for frame in frames])
        self._ends = self._corners + [frame.hw for frame in frames]
        height, width = (int(end) for end in self._ends.max(0))
        self.levels = (Level(width, height, 1.0),)
        self.mpp = None if mpp is None else (mpp, mpp)
        self.kind: Literal["slide", "image"] = "image" if mpp is None else "slide"
        self.dtype: np.dtype[Any] = np.load(frames[0].path, mmap_mode="r").dtype
        self._ground = np.iinfo(self.dtype).max if brightness >= _BRIGHT_FROM else 0
        self.properties = {"format": "mosaic", "frames": str(len(frames))}

    def read_region(self, level: int, l_yx: tuple[int, int], hw: tuple[int, int]) -> NDArray[Any]:
        """Read a window; see `Slide.read_region`."""
        check_window(self, level, l_yx, hw)
        window = np.full((*hw, 3), self._ground, self.dtype)
        depth = np.zeros(hw, np.int32)
        start, stop = np.array(l_yx), np.array(l_yx) + hw
        touches = ((self._corners < stop) & (self._ends > start)).all(1)
        for index in np.nonzero(touches)[0]:
            _paint(window, depth, self._frames[index], l_yx)
        return window

    def close(self) -> None:
        """Do nothing: no file is held."""

    @property
    def frames(self) -> list[PlacedFrame]:
        """Its frames, in the order they came."""
        return list(self._frames)


def _paint(
    window: NDArray[Any],
    depth: NDArray[np.int32],
    frame: PlacedFrame,
    yx: tuple[int, int],
) -> None:
    """Paint a frame where it is deeper than what was painted before."""
    spans = []
    for axis in (0, 1):
        offset = frame.yx[axis] - yx[axis]
        start = max(0, offset)
        spans.append((start, min(depth.shape[axis], offset + frame.hw[axis]), offset))
    (y0, y1, y), (x0, x1, x) = spans
    pixels = np.load(frame.path, mmap_mode="r")[y0 - y : y1 - y, x0 - x : x1 - x]
    rows, columns = _depth(y0 - y, y1 - y, frame.hw[0]), _depth(x0 - x, x1 - x, frame.hw[1])
    deep = np.minimum.outer(rows, columns)
    part = depth[y0:y1, x0:x1]
    is_deeper = deep > part
    window[y0:y1, x0:x1][is_deeper] = rgb_from_samples(pixels)[is_deeper]
    part[is_deeper] = deep[is_deeper]


def _depth(start: int, stop: int, extent: int) -> NDArray[np.int32]:
    """Return the distance of each pixel to the nearer end, from 1 on."""
    places = np.arange(start, stop, dtype=np.int32)
    return np.minimum(places + 1, extent - places)
