"""The table of sources: what stands before the colon, and who opens what stands behind it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cellseg.errors import SourceError
from cellseg.live.sources.slide_camera import SlideCameraOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellseg.live.sources.base import Source

__all__ = ["SOURCES", "SourceOptions", "open_source"]


@dataclass(frozen=True)
class SourceOptions:
    """What a user may say about a source."""

    rate: float | None = None
    """Frames a second; None: the source's own."""

    mpp: float | None = None
    """Microns per pixel; None: what the source says."""

    slide: SlideCameraOptions = field(default_factory=SlideCameraOptions)
    """How a slide is played."""


def open_source(address: str, options: SourceOptions | None = None) -> Source:
    """Open a source by its address.

    Parameters
    ----------
    address : str
        ``opencv:0``, ``opencv:rtsp://...``, ``video:FILE``, ``mm:FILE.cfg``, ``folder:DIR`` or
        ``slide:FILE``.
    options : SourceOptions, optional
        Pace, pixel size, and how a slide is played.

    Raises
    ------
    SourceError
        If there is no such kind of source, or it is not there.
    CellsegError
        If it is there and cannot be used.
    """
    kind, colon, rest = address.partition(":")
    if kind not in SOURCES or not colon:
        near = difflib.get_close_matches(kind, SOURCES, 1)
        known = ", ".join(f"{name}:{example}" for name, (_, example) in SOURCES.items())
        raise SourceError(
            f"A source is one of {known}. Received: {address!r}.",
            hint=f"Did you mean {near[0]}:{rest or SOURCES[near[0]][1]}?" if near else None,
        )
    if not rest:
        raise SourceError(
            f"A source needs what comes after the colon. Received: {address!r}.",
            hint=f"For example {kind}:{SOURCES[kind][1]}.",
        )
    return SOURCES[kind][0](rest, options or SourceOptions())


def _camera(rest: str, options: SourceOptions) -> Source:
    from cellseg.live.sources.opencv import open_camera

    return open_camera(rest, options.rate, options.mpp)


def _video(rest: str, options: SourceOptions) -> Source:
    from cellseg.live.sources.opencv import VideoSource

    return VideoSource(rest, options.rate, options.mpp)


def _micro_manager(rest: str, options: SourceOptions) -> Source:
    from cellseg.live.sources.micro_manager import open_micro_manager

    return open_micro_manager(rest, options.rate, options.mpp)


def _folder(rest: str, options: SourceOptions) -> Source:
    from cellseg.live.sources.folder import FolderSource

    return FolderSource(rest, options.rate, options.mpp)


def _slide(rest: str, options: SourceOptions) -> Source:
    from cellseg.live.sources.slide_camera import SlideCamera

    return SlideCamera(rest, options.slide, options.mpp)


def _ring(rest: str, options: SourceOptions) -> Source:
    from cellseg.live.sources.ring import RingSource

    return RingSource(rest, options.mpp)


SOURCES: dict[str, tuple[Callable[[str, SourceOptions], Source], str]] = {
    "opencv": (_camera, "0"),
    "video": (_video, "FILE"),
    "mm": (_micro_manager, "FILE.cfg"),
    "folder": (_folder, "DIR"),
    "slide": (_slide, "FILE"),
    "ring": (_ring, "NAME"),
}
"""Kind of source to who opens it, and an example of what follows the colon."""
