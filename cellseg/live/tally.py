"""What became of a session's frames, and what the results add up to."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING

from cellseg.live.counters import DropReason
from cellseg.live.latency import LatencyRing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cellseg.live.latency import LatencyStats
    from cellseg.live.result import FrameResult

__all__ = ["Tally", "TallyRead"]

_FPS_WINDOW_NS = 5_000_000_000
_FPS_RESULTS = 512


@dataclass(frozen=True, eq=False)
class TallyRead:
    """A tally at one moment."""

    done: int
    """Frames with a result."""

    dropped: Mapping[DropReason, int]
    """Frames without one; every reason is named."""

    counts: Mapping[str, int]
    """Cells of each class, summed over all results."""

    last: FrameResult | None
    """The newest result."""

    times_ns: tuple[int, ...]
    """When the newest results came, on ``time.monotonic_ns``."""

    @property
    def settled(self) -> int:
        """Frames that are done or dropped."""
        return self.done + sum(self.dropped.values())

    def per_second(self, now_ns: int, started_ns: int) -> float:
        """Return results a second over the last few seconds."""
        first_ns = self.times_ns[0] if self.times_ns else 0
        since_ns = max(now_ns - _FPS_WINDOW_NS, started_ns, first_ns)
        recent = sum(1 for moment in self.times_ns if moment > since_ns)
        return recent / ((now_ns - since_ns) / 1e9) if now_ns > since_ns else 0.0


class Tally:
    """Keeps the books of a session; nothing of it grows with the number of frames.

    Parameters
    ----------
    class_names : iterable of str
        Classes whose cells are counted.
    """

    def __init__(self, class_names: Iterable[str]) -> None:
        self._changed = Condition()
        self._done = self._told = 0
        self._dropped = dict.fromkeys(DropReason, 0)
        self._counts = dict.fromkeys(class_names, 0)
        self._last: FrameResult | None = None
        self._latency = LatencyRing()
        self._times_ns: deque[int] = deque(maxlen=_FPS_RESULTS)

    @property
    def settled(self) -> int:
        """Frames that are done or dropped."""
        with self._changed:
            return self._done + sum(self._dropped.values())

    def add(self, result: FrameResult) -> None:
        """Count a result that has just come."""
        with self._changed:
            self._done += 1
            self._last = result
            self._latency.add(result.latency.total_ms)
            self._times_ns.append(time.monotonic_ns())
            for name, count in result.counts.items():
                self._counts[name] += count

    def drop(self, reason: DropReason) -> None:
        """Count a frame that has no result."""
        with self._changed:
            self._dropped[reason] += 1

    def tell(self) -> None:
        """Count a frame of which all listeners know what became."""
        with self._changed:
            self._told += 1
            self._changed.notify_all()

    def read(self) -> TallyRead:
        """Return what there is, copied, all of one moment."""
        with self._changed:
            return TallyRead(
                self._done,
                dict(self._dropped),
                dict(self._counts),
                self._last,
                tuple(self._times_ns),
            )

    def latency(self) -> LatencyStats:
        """Return percentiles of exposure to result, of the newest results."""
        return self._latency.stats()

    def wait_until_told(self, sent: Callable[[], int], timeout_s: float | None) -> bool:
        """Wait until listeners know of all frames sent; return whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._told == sent(), timeout_s)
