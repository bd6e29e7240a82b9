"""What a worker process is asked to do: one round of one contestant."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from cellseg.bench.record import Contestant

__all__ = ["Task"]


class Task(BaseModel):
    """One round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contestant: Contestant
    model_path: str
    """Bundle: name or path."""
    slide: str | None
    """Slide that tiles come from and that is run whole; null: made."""
    mpp: float | None
    """Pixel size of the slide, where the user gives it."""
    turn: int
    seconds: float
    """Least duration of the round."""
    samples: int
    """Fewest samples of the round."""
    fps: float
    """Scenario stream: frames a second."""
    frame_wh: tuple[int, int]
    """Scenario stream: width and height of a frame."""
