"""A session without a camera: results are made by the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cellseg.live.counters import Counters, DropReason
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.latency import LatencyRing
from cellseg.live.listeners import Listeners
from cellseg.live.result import FrameLatency, FrameResult
from cellseg.live.snapshot import LiveSnapshot

PALETTE = ((0, 0, 0), (0, 255, 0))


class FakeSession:
    """What a page watches; `show` is what a camera and an engine would have done."""

    def __init__(self) -> None:
        self.state: Any = "running"
        self.sent = self.done = 0
        self.dropped = dict.fromkeys(DropReason, 0)
        self.last: FrameResult | None = None
        self.latency = LatencyRing()
        self.results = Listeners("results")
        self.cells = 0

    def show(self, image: np.ndarray, classes: np.ndarray, cells: int = 1) -> None:
        meta = FrameMeta.now(self.sent, stage_xyz_um=(1.0, 2.0, 3.0), channel="DAPI")
        took = FrameLatency(wait_ms=1.0, engine_ms=2.0, total_ms=3.0)
        self.sent, self.done, self.cells = self.sent + 1, self.done + 1, self.cells + cells
        self.latency.add(took.total_ms)
        self.last = FrameResult(
            frame=Frame(image, meta),
            classes=classes,
            labels=None,
            cells=None,
            counts={"nucleus": cells},
            focus=0.5,
            latency=took,
        )
        self.results(self.last)

    def drop(self, reason: DropReason = DropReason.OVERTAKEN) -> None:
        self.sent += 1
        self.dropped[reason] += 1

    def snapshot(self) -> LiveSnapshot:
        return LiveSnapshot(
            state=self.state,
            elapsed_s=1.0 + self.sent,
            fps=12.5,
            latency=self.latency.stats(),
            counters=Counters(self.sent, self.done, dict(self.dropped), 0, 0),
            counts={"nucleus": self.cells},
            last=self.last,
            model="fake 1",
            engine="fake fp32",
            palette=PALETTE,
            class_names=("background", "nucleus"),
        )

    def on_result(self, callback: Callable[[FrameResult], Any]) -> Callable[[], None]:
        return self.results.add(callback)

    def pause(self) -> None:
        self.state = "paused"

    def resume(self) -> None:
        self.state = "running"


def show_square(session: FakeSession, x: int, side: int = 64) -> None:
    """Show a frame with one square of cells whose left edge is at x."""
    image = np.full((side, side, 3), 40, np.uint8)
    classes = np.zeros((side, side), np.uint8)
    classes[20:40, x : x + 12] = 1
    session.show(image, classes)
