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

__all__ = ["SOURCES", "SourceKind", "SourceOptions", "is_camera", "open_source"]


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
        ``opencv:0``, ``opencv:rtsp://...``, ``video:FILE``, ``mm:FILE.cfg``, ``folder:DIR``,
        ``slide:FILE``, ``recording:DIR`` or ``ring:NAME``.
    options : SourceOptions, optional
        Pace, pixel size, and how a slide is played.

    Raises
    ------
    SourceError
        If there is no such kind of source, or it is not there.
    CellsegError
        If it is there and cannot be used.
    """
    kind, rest = _parse(address)
    return SOURCES[kind].open(rest, options or SourceOptions())


def is_camera(address: str, rate: float | None = None) -> bool:
    """Tell whether frames come at their own pace, whatever we do.

    Parameters
    ----------
    address : str
        As for `open_source`.
    rate : float, optional
        Frames a second; what has a rate is played as a camera is.
    """
    return rate is not None or not SOURCES[_parse(address)[0]].waits


def _parse(address: str) -> tuple[str, str]:
    kind, colon, rest = address.partition(":")
    if kind not in SOURCES or not colon:
        near = difflib.get_close_matches(kind, SOURCES, 1)
        known = ", ".join(f"{name}:{found.example}" for name, found in SOURCES.items())
        raise SourceError(
            f"A source is one of {known}. Received: {address!r}.",
            hint=f"Did you mean {near[0]}:{rest or SOURCES[near[0]].example}?" if near else None,
        )
    if not rest:
        raise SourceError(
            f"A source needs what comes after the colon. Received: {address!r}.",
            hint=f"For example {kind}:{SOURCES[kind].example}.",
        )
    return kind, rest


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


def _recording(rest: str, options: SourceOptions) -> Source:
    from cellseg.live.sources.recording import RecordingSource

    return RecordingSource(rest, options.rate, options.mpp)


@dataclass(frozen=True)
class SourceKind:
    """A kind of source."""

    open: Callable[[str, SourceOptions], Source]
    """Opens one by what stands behind the colon."""

    example: str
    """What may stand there."""

    waits: bool = False
    """Whether it waits where a session is slower, and loses nothing."""


SOURCES = {
    "opencv": SourceKind(_camera, "0"),
    "video": SourceKind(_video, "FILE"),
    "mm": SourceKind(_micro_manager, "FILE.cfg"),
    "folder": SourceKind(_folder, "DIR", waits=True),
    "slide": SourceKind(_slide, "FILE", waits=True),
    "recording": SourceKind(_recording, "DIR", waits=True),
    "ring": SourceKind(_ring, "NAME"),
}
"""Kinds of source by what stands before the colon."""
