"""A slide played as a camera: the digital twin of a scanning microscope.

The stage goes over the slide in a serpentine; neighbouring fields overlap. What the stage reports
is where it was sent; what the camera sees lies up to ``jitter_px`` away from there, as on a real
stage. Everything that is random comes from one seed and the frame's number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import CellsegError
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.sources.base import Pacer
from cellseg.runtime.slides.readers import open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from threading import Event

    from numpy.typing import NDArray

    from cellseg.live.sources.base import FrameKind
    from cellseg.runtime.slides.slide import Slide

__all__ = ["SlideCamera", "SlideCameraOptions", "serpentine"]

_DEFOCUS_UM_PER_PX = 1.0  # what the focus drive reports for a blur of one pixel


@dataclass(frozen=True)
class SlideCameraOptions:
    """How a slide is played."""

    frame_hw: tuple[int, int] = (1024, 1024)
    """Height and width of a frame in level-0 pixels; a smaller slide gives smaller frames."""

    overlap: float = 0.1
    """Part of a frame that its neighbour shows too, 0 to 0.9."""

    jitter_px: float = 0.0
    """How far the camera's view lies from where the stage was sent, at most, on each axis."""

    defocus_px: float = 0.0
    """Largest sigma of a Gaussian that blurs a frame."""

    lost: float = 0.0
    """Part of the frames that never arrive, 0 to 1; their numbers are missing."""

    rate: float | None = None
    """Frames a second; None: as fast as they can be read."""

    frames: int | None = None
    """How many frames; None: one pass over the slide. The path is repeated for more."""

    seed: int = 0
    """Of all that is random."""

    def __post_init__(self) -> None:
        checks = {
            "frame_hw": min(self.frame_hw) >= 1,
            "overlap": 0 <= self.overlap <= 0.9,
            "jitter_px": self.jitter_px >= 0,
            "defocus_px": self.defocus_px >= 0,
            "lost": 0 <= self.lost < 1,
            "rate": self.rate is None or self.rate > 0,
            "frames": self.frames is None or self.frames >= 1,
            "seed": self.seed >= 0,
        }
        for name, is_good in checks.items():
            if not is_good:
                raise CellsegError(
                    f"{name} of a slide played as a camera is out of range. "
                    f"Received: {name}={getattr(self, name)}."
                )


class SlideCamera:
    """Frames of a stage that goes over a slide.

    Parameters
    ----------
    slide : path or Slide
        Any slide or image that can be opened. One that comes open stays open.
    options : SlideCameraOptions
        Path, faults and pace.
    mpp : float, optional
        Microns per level-0 pixel; overrides what the file says. Where nobody knows, the stage
        counts in pixels.

    Attributes
    ----------
    truth_yx : dict of int to (int, int)
        Where the frames that were sent really lie, in level-0 pixels, by frame id.
    """

    def __init__(
        self,
        slide: str | Path | Slide,
        options: SlideCameraOptions | None = None,
        mpp: float | None = None,
    ) -> None:
        self._is_ours = isinstance(slide, (str, Path))
        self._slide: Slide = open_slide(slide, mpp) if isinstance(slide, (str, Path)) else slide
        self._options = options or SlideCameraOptions()
        base = self._slide.levels[0]
        self.extent_hw = (base.height_px, base.width_px)
        wanted = self._options.frame_hw
        self.frame_hw = (min(wanted[0], base.height_px), min(wanted[1], base.width_px))
        self.truth_yx: dict[int, tuple[int, int]] = {}

    @property
    def name(self) -> str:
        """What is played."""
        return f"slide:{self._slide.path}"

    @property
    def mpp(self) -> float | None:
        """Microns per level-0 pixel."""
        return None if self._slide.mpp is None else math.sqrt(math.prod(self._slide.mpp))

    @property
    def frame_kind(self) -> FrameKind:
        """Shape and dtype of all frames."""
        return (*self.frame_hw, 3), self._slide.dtype

    @property
    def path_yx(self) -> list[tuple[int, int]]:
        """Where the stage is sent, in level-0 pixels, in order."""
        return serpentine(self.extent_hw, self.frame_hw, self._options.overlap)

    @property
    def lost(self) -> Mapping[str, int]:
        """None that it knows of."""
        return {}

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield the frames of the path; see `Source.frames`."""
        options, pacer, path = self._options, Pacer(self._options.rate), self.path_yx
        count = len(path) if options.frames is None else options.frames
        for frame_id, place_yx in zip(range(count), cycle(path), strict=False):
            random = np.random.default_rng((options.seed, frame_id))
            is_lost = random.random() < options.lost
            # Read before it is due: decoding a slide is none of a camera's work.
            pixels, where_um = self._exposed(frame_id, place_yx, random)
            due_ns = pacer.wait(stop)
            if stop.is_set():
                return
            if not is_lost:
                yield Frame(pixels, FrameMeta(frame_id, due_ns, where_um))

    def close(self) -> None:
        """Close the slide."""
        if self._is_ours:
            self._slide.close()

    def _exposed(
        self, frame_id: int, place_yx: tuple[int, int], random: np.random.Generator
    ) -> tuple[NDArray[Any], tuple[float, float, float]]:
        """Return what the camera sees, and where the stage says it is."""
        sigma_px = float(random.random() * self._options.defocus_px)
        yx = self._jittered(place_yx, random)
        self.truth_yx[frame_id] = yx
        pixels = self._slide.read_region(0, yx, self.frame_hw)
        if sigma_px > 0:
            pixels = _blurred(pixels, sigma_px)
        unit = self._slide.mpp or (1.0, 1.0)
        where_um = (place_yx[1] * unit[0], place_yx[0] * unit[1], sigma_px * _DEFOCUS_UM_PER_PX)
        return pixels, where_um

    def _jittered(self, place_yx: tuple[int, int], random: np.random.Generator) -> tuple[int, int]:
        """Move a place by whole pixels, staying on the slide."""
        most = self._options.jitter_px
        moved = (place + int(np.rint(random.uniform(-most, most))) for place in place_yx)
        limits = (full - part for full, part in zip(self.extent_hw, self.frame_hw, strict=True))
        y, x = (min(max(0, at), limit) for at, limit in zip(moved, limits, strict=True))
        return y, x


def serpentine(
    extent_hw: tuple[int, int], frame_hw: tuple[int, int], overlap: float
) -> list[tuple[int, int]]:
    """Return the top-left corners of fields that cover an extent, row by row, there and back.

    Examples
    --------
    >>> serpentine((20, 28), (10, 10), 0.1)
    [(0, 0), (0, 9), (0, 18), (9, 18), (9, 9), (9, 0), (10, 0), (10, 9), (10, 18)]
    """
    rows, columns = (
        _origins(extent, side, overlap) for extent, side in zip(extent_hw, frame_hw, strict=True)
    )
    return [
        (y, x)
        for index, y in enumerate(rows)
        for x in (columns if index % 2 == 0 else reversed(columns))
    ]


def _origins(extent_px: int, side_px: int, overlap: float) -> list[int]:
    step_px = max(1, math.floor(side_px * (1 - overlap)))
    last = extent_px - side_px
    return [*range(0, last, step_px), last]


def _blurred(pixels: NDArray[Any], sigma_px: float) -> NDArray[Any]:
    import cv2

    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma_px), pixels.dtype)
