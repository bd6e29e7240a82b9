"""Plays frames at a fixed rate, as a camera does, and counts which came too late."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.bench.record import Stream
from cellseg.bench.reports.intervals import share

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellseg.bench.rounds.sampling import Amount

__all__ = ["Played", "play"]


@dataclass(frozen=True)
class Played:
    """What became of the frames."""

    latencies_ms: tuple[float, ...]
    """From a frame's arrival to its result, frames that were processed."""

    dropped: int
    late: int

    def record(self, fps: float, frame_hw: tuple[int, int]) -> Stream:
        """Return the counts as they are reported."""
        processed = len(self.latencies_ms)
        offered = processed + self.dropped
        misses = self.dropped + self.late
        return Stream(
            fps=fps,
            frame_hw=frame_hw,
            offered=offered,
            processed=processed,
            dropped=self.dropped,
            late=self.late,
            misses=misses,
            miss_rate=share(misses, offered),
        )


def play(query: Callable[[int], object], fps: float, amount: Amount) -> Played:
    """Offer frames at a rate; a busy consumer finds only the newest.

    Parameters
    ----------
    query : callable
        Processes the frame of a number.
    fps : float
        Frames a second; the result of a frame is due when the next one comes.
    amount : Amount
        Seconds, and frames that were processed.
    """
    period_s = 1 / fps
    started_s = time.perf_counter()
    latencies: list[float] = []
    dropped = frame = 0
    while not amount.is_reached(started_s, len(latencies)):
        now_s = time.perf_counter() - started_s
        newest = int(now_s * fps)
        if newest > frame:
            dropped += newest - frame
            frame = newest
        elif now_s < frame * period_s:
            time.sleep(frame * period_s - now_s)
        query(frame)
        latencies.append(1e3 * (time.perf_counter() - started_s - frame * period_s))
        frame += 1
    late = sum(latency > 1e3 * period_s for latency in latencies)
    return Played(tuple(latencies), dropped, late)
