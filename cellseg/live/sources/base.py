"""What every source of frames promises, and what sources share."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from threading import Event

    import numpy as np

    from cellseg.live.frame import Frame

    FrameKind = tuple[tuple[int, ...], np.dtype[Any]]

__all__ = ["Pacer", "PixelSize", "Source", "backoff_s"]

_LOG = logging.getLogger(__name__)
_SAME_MPP = 0.01
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.25, 8.0


class Source(Protocol):
    """Where frames come from."""

    @property
    def name(self) -> str:
        """What is shown of it, as it was asked for."""
        ...

    @property
    def mpp(self) -> float | None:
        """Microns per pixel of its frames; None where it does not know."""
        ...

    @property
    def frame_kind(self) -> FrameKind | None:
        """Shape and dtype that its frames will most likely have; None where it cannot know."""
        ...

    @property
    def lost(self) -> Mapping[str, int]:
        """Frames that never came out of it, by reason; empty where it knows of none."""
        ...

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield frames as they come, until there are no more or ``stop`` is set.

        A camera that goes away is waited for. The pixels of a frame are not touched again while
        anybody holds them.
        """
        ...

    def close(self) -> None:
        """Release the device. May be called again."""
        ...


class Pacer:
    """Says when the next frame is due, at a fixed rate from the first one on.

    Parameters
    ----------
    rate : float or None
        Frames a second; None: as fast as can be.
    """

    def __init__(self, rate: float | None) -> None:
        self._period_ns = None if rate is None else int(1e9 / rate)
        self._next_ns: int | None = None

    def wait(self, stop: Event) -> int:
        """Wait until a frame is due; return when that was, on ``time.monotonic_ns``."""
        now_ns = time.monotonic_ns()
        if self._period_ns is None:
            return now_ns
        due_ns = now_ns if self._next_ns is None else self._next_ns
        if due_ns > now_ns:
            stop.wait((due_ns - now_ns) / 1e9)
        # A consumer that blocks holds the camera up: frames it could not take were never exposed.
        due_ns = max(due_ns, now_ns - self._period_ns)
        self._next_ns = due_ns + self._period_ns
        return due_ns


class PixelSize:
    """The size of a pixel that a stream is measured by: what a user says, or its first frame.

    Parameters
    ----------
    name : str
        Of the source, for the log.
    given : float or None
        Microns per pixel that a user gave; frames are not asked then.
    stated : float or None
        What the first frame states, where there is one already.

    Attributes
    ----------
    mpp : float or None
        Microns per pixel; None where nobody knows.
    """

    def __init__(self, name: str, given: float | None, stated: float | None) -> None:
        self._name, self._is_watching = name, given is None
        self.mpp = stated if given is None else given

    def compare(self, stated: float | None) -> None:
        """Say once if a frame states another size than the stream is measured by."""
        if not self._is_watching or stated is None:
            return
        if self.mpp is None or abs(stated - self.mpp) > _SAME_MPP * self.mpp:
            self._is_watching = False
            _LOG.warning(
                "%s: frames state %g µm a pixel, which was %s at the start and stays so; start "
                "again for another, or say --mpp",
                self._name, stated, "not known" if self.mpp is None else f"{self.mpp:g} µm",
            )  # fmt: skip


def backoff_s(attempt: int) -> float:
    """Return how long to wait before a lost device is tried again.

    Examples
    --------
    >>> [backoff_s(n) for n in range(7)]
    [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    """
    return min(_FIRST_BACKOFF_S * 2.0**attempt, _LONGEST_BACKOFF_S)
