"""A camera program's frames from shared memory, see `cellseg.live.ring` and ``docs/ring.md``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cellseg.errors import RingError
from cellseg.live.frame import Frame
from cellseg.live.pools import FramePool
from cellseg.live.ring.reader import DEAD_AFTER_S, RingReader
from cellseg.live.sources.base import PixelSize, backoff_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from threading import Event

    from cellseg.live.ring.reader import RingFrame
    from cellseg.live.sources.base import FrameKind

__all__ = ["RingSource"]

_LOG = logging.getLogger(__name__)
_POLL_S = 0.001


class RingSource:
    """The frames of a ring, each copied out of shared memory once and checked to be whole.

    Parameters
    ----------
    name : str
        Name of the shared memory.
    mpp : float, optional
        Microns per pixel; by default what the camera program says with its newest frame.
    dead_after_s : float
        How long the camera program may show no life.

    Attributes
    ----------
    missed : int
        Frames that were overwritten before they were read; the newest is read instead.
    torn : int
        Frames that were overwritten while they were read; none of them is handed out.
    refused : int
        Frames that were no images, or reached out of their slots.

    Raises
    ------
    RingError
        If there is no ring of this name, or not one that this version reads.
    """

    def __init__(
        self, name: str, mpp: float | None = None, dead_after_s: float = DEAD_AFTER_S
    ) -> None:
        self.name = f"ring:{name}"
        self.missed = self.torn = self.refused = 0
        self._ring, self._dead_after_s = name, dead_after_s
        self._reader: RingReader | None = RingReader(name, dead_after_s)
        self._next = max(0, self._reader.published - 1)
        self._pool = FramePool()
        newest = self._reader.newest()
        self._pixel_size = PixelSize(self.name, mpp, None if newest is None else newest.mpp)
        self._kind = None if newest is None else (newest.array.shape, newest.array.dtype)

    @property
    def mpp(self) -> float | None:
        """Microns per pixel of the stream."""
        return self._pixel_size.mpp

    @property
    def frame_kind(self) -> FrameKind | None:
        """That of the newest frame when the ring was opened."""
        return self._kind

    @property
    def lost(self) -> Mapping[str, int]:
        """Frames of the ring that were not handed out, see the attributes."""
        return {"missed": self.missed, "torn": self.torn, "refused": self.refused}

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield frames until the camera program says that it is done; see `Source.frames`.

        One that died without a word is waited for: when it is started again, its new ring is read.
        """
        attempt = 0
        if self._reader is not None:  # what came while an engine was opened is no loss
            self._leap(self._reader, self._reader.published)
        while not stop.is_set() and self._reader is not None:
            frame = self._take(self._reader)
            if frame is not None:
                attempt = 0
                yield frame
                continue
            writer = self._reader.writer
            if writer == "alive" or self._next < self._reader.published:
                stop.wait(_POLL_S)
            elif writer == "closed":
                return
            else:
                attempt = self._wait_for_writer(attempt, stop)

    def close(self) -> None:
        """Let go of the memory."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _take(self, reader: RingReader) -> Frame | None:
        """Copy the next frame out; None if there is none yet, or it changed meanwhile."""
        published = reader.published
        if self._next >= published:
            return None
        self.missed += self._leap(reader, published)
        number, self._next = self._next, self._next + 1
        try:
            seen = reader.frame(number)
        except RingError as error:  # the one after it may be better
            self.refused += 1
            if self.refused == 1:
                _LOG.warning("%s; further ones are only counted", error)
            return None
        if seen is None:
            self.torn += 1
            return None
        self._pixel_size.compare(seen.mpp)
        return self._copied(seen)

    def _leap(self, reader: RingReader, published: int) -> int:
        """Go on with the newest frame where the next one is overwritten; return how many went."""
        oldest = published - reader.slots + 1  # the slot after the newest is being written
        if self._next >= oldest:
            return 0
        before, self._next = self._next, published - 1
        return self._next - before

    def _copied(self, seen: RingFrame) -> Frame | None:
        pixels = self._pool.take(seen.array.shape, seen.array.dtype)
        pixels[...] = seen.array
        if not seen.is_intact():
            self.torn += 1
            return None
        return Frame(pixels, seen.meta)

    def _wait_for_writer(self, attempt: int, stop: Event) -> int:
        """Look whether the name has a new ring; return the number of the next attempt."""
        if attempt == 0:
            _LOG.warning("%s: the camera program shows no life; waiting for it", self.name)
        stop.wait(min(backoff_s(attempt), 1.0))
        try:
            found = RingReader(self._ring, self._dead_after_s)
        except RingError:
            return attempt + 1
        if self._reader is None or found.session == self._reader.session:
            return attempt + 1
        _LOG.warning("%s: the camera program is back", self.name)
        self._reader, self._next = found, max(0, found.published - 1)
        return 0
