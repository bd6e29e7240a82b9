"""What became of frames: every one that was sent is done or dropped, with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from cellseg.errors import CellsegError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellseg.live.frame import FrameMeta

__all__ = ["Counters", "DropReason", "FrameDropped", "Policy"]


class Policy(str, Enum):
    """What happens to a frame that comes while the queue is full."""

    DROP_OLDEST = "drop-oldest"
    """The one that has waited longest goes: what is shown is as new as can be."""

    DROP_NEWEST = "drop-newest"
    """It goes itself: what was accepted is done in any case."""

    BLOCK = "block"
    """``submit`` waits for room: nothing is lost, and the camera waits for us."""


class DropReason(str, Enum):
    """Why a frame has no result."""

    OVERTAKEN = "overtaken"
    """A newer frame took its place in the queue (drop-oldest)."""

    QUEUE_FULL = "queue-full"
    """There was no room for it (drop-newest)."""

    PAUSED = "paused"
    """It came while the session was paused."""

    CANCELLED = "cancelled"
    """Its future was cancelled."""

    CLOSED = "closed"
    """The session was closed before its turn, or already when it came."""

    BAD_FRAME = "bad-frame"
    """No image: another dtype or shape than a session takes."""

    ERROR = "error"
    """The engine failed on it."""


class FrameDropped(CellsegError, RuntimeError):
    """What the future of a dropped frame raises."""

    def __init__(self, meta: FrameMeta, reason: DropReason) -> None:
        super().__init__(f"Frame {meta.frame_id} was dropped. Received: reason={reason.value}.")
        self.meta, self.reason = meta, reason


@dataclass(frozen=True)
class Counters:
    """Counts at one moment; ``sent = done + dropped + waiting`` holds at every moment."""

    sent: int
    """Frames that were submitted."""

    done: int
    """Frames with a result."""

    dropped_by_reason: Mapping[DropReason, int]
    """Frames without one; every reason is named."""

    waiting: int
    """Frames in the queue or being segmented; 0 once the session is closed."""

    clock_jumps: int = 0
    """Frames whose exposure started before their predecessor's, or in the future."""

    @property
    def dropped(self) -> int:
        """Frames without a result, whatever the reason."""
        return sum(self.dropped_by_reason.values())

    @property
    def errors(self) -> int:
        """Frames that the engine failed on, or that were no image."""
        by_reason = self.dropped_by_reason
        return by_reason[DropReason.ERROR] + by_reason[DropReason.BAD_FRAME]

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        reasons = {reason.value: count for reason, count in self.dropped_by_reason.items()}
        return {
            "sent": self.sent,
            "done": self.done,
            "dropped": self.dropped,
            "errors": self.errors,
            "dropped_by_reason": reasons,
            "clock_jumps": self.clock_jumps,
        }
