"""A session as the page sees it: the newest result as a picture, the state, and the last minutes.

The session's thread only leaves its newest result here. Whoever looks asks for a picture newer than
the one he has, so that a slow browser misses pictures, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cellseg.live.painter import encode_jpeg, paint_result, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from cellseg.live.mosaic.preview import MosaicPreview
    from cellseg.live.painter import Layer
    from cellseg.live.result import FrameResult
    from cellseg.live.snapshot import LiveSnapshot

__all__ = ["Picture", "Watched", "Watcher"]

_SAMPLE_S = 0.5
_SAMPLES = 240
_MAX_SIDE_PX = 1024


class Watched(Protocol):
    """What the page needs of a `cellseg.live.session.LiveSession`."""

    def snapshot(self) -> LiveSnapshot:
        """Return the state of this moment."""
        ...

    def on_result(self, callback: Callable[[FrameResult], Any]) -> Callable[[], None]:
        """Call back with every result; return what ends that."""
        ...

    def pause(self) -> None:
        """Drop what comes from now on."""
        ...

    def resume(self) -> None:
        """Take frames again."""
        ...


@dataclass(frozen=True)
class Picture:
    """A result, painted."""

    number: int
    """Grows: results that came, or changes of the scan."""

    frame_id: int
    """Number of the frame."""

    layer: Layer
    """What is shown."""

    jpeg: bytes
    """The picture."""


class Watcher:
    """Lives in the server's event loop; made and closed there.

    Parameters
    ----------
    session : Watched
        What is watched.
    scan : MosaicPreview, optional
        A mosaic that grows meanwhile.
    """

    def __init__(self, session: Watched, scan: MosaicPreview | None = None) -> None:
        self.session, self._scan = session, scan
        self.history: deque[dict[str, Any]] = deque(maxlen=_SAMPLES)
        self._loop = asyncio.get_running_loop()
        self._painter = ThreadPoolExecutor(1, "cellseg-page")
        self._painting = asyncio.Lock()
        self._arrived = asyncio.Event()
        self._number = 0
        self._result = session.snapshot().last
        self._picture: Picture | None = None
        self._sampling = asyncio.create_task(self._sample())
        self._stop_listening = session.on_result(self._hand_over)
        self._painter.submit(warm_up)

    def state(self) -> dict[str, Any]:
        """Return the session's numbers as JSON values."""
        return self.session.snapshot().as_dict() | {"has_scan": self._scan is not None}

    def shows(self, layer: Layer) -> bool:
        """Tell whether there is such a layer here."""
        return layer != "scan" or self._scan is not None

    def paint(
        self, result: FrameResult, layer: Layer, max_side_px: int | None = None
    ) -> NDArray[np.uint8]:
        """Paint a result, or the scan so far, uint8 (h, w, 3)."""
        if layer == "scan" and self._scan is not None:
            return self._scan.overlay()
        return paint_result(result, self.session.snapshot().palette, layer, max_side_px)

    async def newer_picture(
        self, than: Picture | None, layer: Layer, timeout_s: float
    ) -> Picture | None:
        """Wait for a picture that is newer than another, or of another layer.

        Returns
        -------
        Picture or None
            None where none came in time.
        """
        if than is not None and than.layer == layer and than.number == self._number_of(layer):
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), timeout_s)
        picture = await self._painted(layer)
        return None if picture == than else picture

    def newest_result(self) -> FrameResult | None:
        """Return the newest result, for a snapshot."""
        return self._result

    async def close(self) -> None:
        """Let go of the session."""
        self._stop_listening()
        self._sampling.cancel()
        with suppress(asyncio.CancelledError):
            await self._sampling
        self._painter.shutdown()

    def _hand_over(self, result: FrameResult) -> None:
        """Take a result from the session's thread; costs it some microseconds."""
        with suppress(RuntimeError):  # the loop has just been closed
            self._loop.call_soon_threadsafe(self._take, result)

    def _take(self, result: FrameResult) -> None:
        self._number, self._result = self._number + 1, result
        self._arrived.set()
        self._arrived = asyncio.Event()

    async def _painted(self, layer: Layer) -> Picture | None:
        """Paint the newest result, once for all who look."""
        async with self._painting:
            result, number = self._result, self._number_of(layer)
            if result is None:
                return None
            kept = self._picture
            if kept is None or (kept.number, kept.layer) != (number, layer):
                paint = self._paint
                self._picture = await self._loop.run_in_executor(
                    self._painter, paint, result, number, layer
                )
            return self._picture

    def _number_of(self, layer: Layer) -> int:
        """Return what changes with the picture of a layer."""
        if layer == "scan" and self._scan is not None:
            return self._scan.version
        return self._number

    def _paint(self, result: FrameResult, number: int, layer: Layer) -> Picture:
        rgb = self.paint(result, layer, _MAX_SIDE_PX)
        return Picture(number, result.meta.frame_id, layer, encode_jpeg(rgb))

    async def _sample(self) -> None:
        while True:
            self.history.append(_sample_of(self.session.snapshot()))
            await asyncio.sleep(_SAMPLE_S)


def _sample_of(seen: LiveSnapshot) -> dict[str, Any]:
    """Return a point of the charts."""
    last = seen.last
    return {
        "t": round(seen.elapsed_s, 2),
        "fps": round(seen.fps, 2),
        "last_ms": None if last is None else round(last.latency.total_ms, 2),
        "p50": seen.latency.p50,
        "p99": seen.latency.p99,
        "dropped": seen.counters.dropped,
        "counts": {} if last is None else dict(last.counts),
    }
