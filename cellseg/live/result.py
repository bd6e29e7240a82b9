"""What a session says of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from cellseg.live.frame import Frame, FrameMeta

__all__ = ["FrameLatency", "FrameResult"]


@dataclass(frozen=True)
class FrameLatency:
    """Where the time between exposure and result went, milliseconds."""

    wait_ms: float
    """From the start of the exposure until the session took the frame up."""

    engine_ms: float
    """In the engine, all tiles of the frame together."""

    total_ms: float
    """From the start of the exposure until the result was there."""


@dataclass(frozen=True, eq=False)
class FrameResult:
    """A segmented frame.

    Notes
    -----
    The arrays lie in buffers that the session uses again once nobody holds them any more: neither
    this result, nor one of its arrays, nor a view or DLPack capsule of one. Nothing needs to be
    released, and nothing that is held is ever overwritten.
    """

    frame: Frame
    """The frame as it was submitted; its pixels belong to who submitted it."""

    classes: NDArray[np.uint8]
    """Class index, uint8 (H, W); 0 is background."""

    labels: NDArray[np.uint32] | None
    """Cells numbered from 1, uint32 (H, W); None if the model does not tell cells apart."""

    counts: Mapping[str, int]
    """Number of cells of each foreground class, every class named; empty where cells are not
    told apart."""

    cells: NDArray[Any] | None
    """One row a cell, see `cellseg.live.frame_cells.CELL_DTYPE`; None where cells are not told
    apart."""

    focus: float
    """Sharpness of the frame: comparable between frames of one scene only, larger is sharper."""

    latency: FrameLatency
    """Where its time went."""

    @property
    def meta(self) -> FrameMeta:
        """What is known of the frame."""
        return self.frame.meta
