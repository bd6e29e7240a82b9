"""The state of a session at one moment, for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellseg.live.counters import Counters
    from cellseg.live.latency import LatencyStats
    from cellseg.live.result import FrameResult
    from cellseg.runtime.view.normalize import Intensities

__all__ = ["LiveSnapshot"]


@dataclass(frozen=True, eq=False)
class LiveSnapshot:
    """Immutable; every number in it is of the same moment."""

    state: Literal["running", "paused", "closed"]
    """``closed`` from the moment ``close`` was called."""

    elapsed_s: float
    """Seconds since the session was made."""

    fps: float
    """Results a second over the last few seconds."""

    latency: LatencyStats
    """Exposure to result, of the newest results."""

    counters: Counters
    """What became of frames."""

    counts: Mapping[str, int]
    """Cells of each class, summed over all frames done; a cell seen twice counts twice."""

    last: FrameResult | None
    """The newest result."""

    model: str
    """Name and version of the model."""

    engine: str | None
    """Engine and precision, such as ``openvino int8``; None before the first frame."""

    palette: tuple[tuple[int, int, int], ...]
    """Colour of each class, background first."""

    class_names: tuple[str, ...]
    """Name of each class, background first."""

    intensities: Intensities | None = None
    """What the model sees of the newest frame's values; None before the first frame."""

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON values; without pixels."""
        last = self.last
        return {
            "state": self.state,
            "elapsed_s": round(self.elapsed_s, 3),
            "fps": round(self.fps, 3),
            **self.counters.as_dict(),
            "latency_ms": self.latency.as_dict(),
            "counts": dict(self.counts),
            "model": self.model,
            "engine": self.engine,
            "normalize": None if self.intensities is None else self.intensities.as_dict(),
            "frame": None if last is None else _frame_dict(last),
        }


def _frame_dict(result: FrameResult) -> dict[str, Any]:
    return {
        "id": result.meta.frame_id,
        "stage_xyz_um": result.meta.stage_xyz_um,
        "channel": result.meta.channel,
        "counts": dict(result.counts),
        "focus": round(result.focus, 3),
        "latency_ms": round(result.latency.total_ms, 3),
    }
