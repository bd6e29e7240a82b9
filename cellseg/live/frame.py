"""A frame of a camera, and what is known of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Frame", "FrameMeta", "Tensor"]


class Tensor(Protocol):
    """Pixels of another library, such as torch, that NumPy can look at without a copy."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        """Return them as a DLPack capsule."""
        ...

    def __dlpack_device__(self) -> Any:
        """Return where they lie."""
        ...


@dataclass(frozen=True)
class FrameMeta:
    """When, where and by which channel a frame was taken."""

    frame_id: int
    """Number that the camera, or whoever feeds frames, gave it."""

    exposure_start_ns: int
    """Start of the exposure on the clock of ``time.monotonic_ns``; latency counts from here."""

    stage_xyz_um: tuple[float, float, float] | None = None
    """Position of the stage, microns: where the frame's top-left corner lies (x right, y down)
    and the focus drive; None where there is no stage."""

    channel: str | None = None
    """Name of the channel, such as ``DAPI``."""

    @classmethod
    def now(cls, frame_id: int, **known: Any) -> FrameMeta:
        """Return the meta of a frame whose exposure starts at this moment."""
        return cls(frame_id, time.monotonic_ns(), **known)


@dataclass(frozen=True, eq=False)
class Frame:
    """Pixels and what is known of them."""

    array: NDArray[Any]
    """uint8 or uint16, shape (H, W) or (H, W, 1 | 3 | 4): grey, RGB or RGBA."""

    meta: FrameMeta
    """What is known of it."""
