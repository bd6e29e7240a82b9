"""Reads frames of a ring where they lie, and notices when one changes underneath."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellseg.errors import RingError
from cellseg.live.frame import FrameMeta
from cellseg.live.ring import layout
from cellseg.live.ring.memory import barrier, map_ring, ring_path

if TYPE_CHECKING:
    from mmap import mmap

    from numpy.typing import NDArray

__all__ = ["DEAD_AFTER_S", "RingFrame", "RingReader", "WriterState"]

DEAD_AFTER_S = 2.0
"""A writer whose heart has not beaten for so long is taken for dead."""

WriterState = Literal["alive", "closed", "dead"]


@dataclass(frozen=True, eq=False)
class RingFrame:
    """A frame in shared memory. The writer may overwrite it: use it, then ask ``is_intact``."""

    array: NDArray[Any]
    """uint8 or uint16, shape (H, W) or (H, W, C): read-only, no copy."""

    meta: FrameMeta
    """What the camera said of it."""

    mpp: float | None
    """Microns a pixel, where the camera knows."""

    camera_time_ns: int | None
    """Time on the camera's own clock, where it has one."""

    number: int
    """Counts the ring's frames from 0."""

    _sequence: NDArray[np.uint64]

    def is_intact(self) -> bool:
        """Return whether what has been read of ``array`` until now was this frame, whole."""
        barrier()
        return int(self._sequence[0]) == 2 * self.number + 2


class RingReader:
    """One of any number of readers of a ring. Nothing that a reader does reaches the writer.

    Parameters
    ----------
    name : str
        Name of the shared memory, without a slash.
    dead_after_s : float
        How long a writer may show no life.

    Attributes
    ----------
    session : int
        Differs each time a ring of this name is made.

    Raises
    ------
    RingError
        If there is no such ring, or it is not one that this version reads.
    """

    def __init__(self, name: str, dead_after_s: float = DEAD_AFTER_S) -> None:
        self.name, self._dead_after_s = name, dead_after_s
        memory = _open(name)
        self._map: mmap | None = memory
        self._header: NDArray[Any] = np.ndarray((), layout.HEADER, memory)
        layout.check_header(name, self._header, len(memory))
        self.slots = int(self._header["slots"])
        self.session = int(self._header["session"])
        self.writer_pid = int(self._header["writer_pid"])
        self._slot_bytes = int(self._header["slot_bytes"])
        self._pixel_bytes = int(self._header["pixel_bytes"])

    @property
    def published(self) -> int:
        """Frames published so far; the newest has the number ``published - 1``."""
        count = int(self._header["published"])
        barrier()
        return count

    @property
    def writer(self) -> WriterState:
        """Whether the writer lives, has said goodbye, or has died without a word."""
        if int(self._header["state"]) == layout.CLOSED:
            return "closed"
        silent_ns = time.monotonic_ns() - int(self._header["heartbeat_ns"])
        return "dead" if silent_ns > self._dead_after_s * 1e9 else "alive"

    def is_replaced(self) -> bool:
        """Return whether the name now belongs to another ring, or to none."""
        try:
            return RingReader(self.name).session != self.session
        except RingError:
            return True

    def frame(self, number: int) -> RingFrame | None:
        """Return a frame by its number; None if it is not whole, or already overwritten.

        Raises
        ------
        RingError
            If the frame is whole, but its description fits no image or not its slot; or the reader
            is closed.
        """
        if self._map is None:
            raise RingError(f"A closed reader has no frames. Received: {self.name} after close.")
        start = layout.HEADER_BYTES + number % self.slots * self._slot_bytes
        sequence: NDArray[np.uint64] = np.ndarray((1,), "<u8", self._map, start)
        if int(sequence[0]) != 2 * number + 2:
            return None
        barrier()
        slot: NDArray[Any] = np.ndarray((), layout.SLOT, self._map, start).copy()
        barrier()
        if int(sequence[0]) != 2 * number + 2:
            return None
        return RingFrame(
            self._pixels(slot, start + layout.HEADER_BYTES),
            _meta(slot),
            _known(float(slot["mpp"])),
            int(slot["camera_time_ns"]) or None,
            number,
            sequence,
        )

    def newest(self) -> RingFrame | None:
        """Return the newest frame; None if there is none, or it is being overwritten."""
        count = self.published
        return self.frame(count - 1) if count else None

    def close(self) -> None:
        """Let go of the memory; frames that are still held keep it. May be called again."""
        self._header, self._map = self._header.copy(), None

    def _pixels(self, slot: NDArray[Any], start: int) -> NDArray[Any]:
        """Return a view of a slot's pixels, once they are known to lie in the slot."""
        dtype = layout.PIXEL_DTYPES.get(int(slot["dtype"]))
        shape = tuple(int(slot[key]) for key in ("height", "width", "channels"))
        strides = tuple(int(step) for step in slot["strides"])
        if dtype is None or min(shape) < 1 or shape[2] not in (1, 3, 4) or min(strides) < 0:
            raise self._bad(slot, "dtype 1 (uint8) or 2 (uint16), 1, 3 or 4 channels, a pixel")
        if layout.pixel_reach(shape, strides, dtype.itemsize) > self._pixel_bytes:
            raise self._bad(slot, f"strides that stay in the slot's {self._pixel_bytes} bytes")
        if shape[2] == 1:
            shape, strides = shape[:2], strides[:2]
        view: NDArray[Any] = np.ndarray(shape, dtype, self._map, start, strides)
        return view

    def _bad(self, slot: NDArray[Any], rule: str) -> RingError:
        fields = ("dtype", "height", "width", "channels")
        found = ", ".join(f"{key}={int(slot[key])}" for key in fields)
        strides = [int(step) for step in slot["strides"]]
        return RingError(
            f"A frame of a ring has {rule}. Received: {self.name} with {found}, strides={strides}.",
            hint="cellseg_ring_set_image fills these fields.",
        )


def _open(name: str) -> mmap:
    try:
        memory = map_ring(ring_path(name))
    except FileNotFoundError as error:
        raise RingError(
            f"A ring is there once its writer has started. Received: no ring {name!r}.",
            hint="Start the camera program; docs/ring.md has one in C.",
        ) from error
    except OSError as error:
        raise RingError(
            f"A ring must be readable. Received: {name!r}: {error.strerror}."
        ) from error
    if len(memory) < layout.HEADER_BYTES:
        raise RingError(
            f"A ring has at least {layout.HEADER_BYTES} bytes. "
            f"Received: {name} of {len(memory)} bytes."
        )
    return memory


def _meta(slot: NDArray[Any]) -> FrameMeta:
    x, y, z = (float(um) for um in slot["stage_um"])
    known = math.isfinite(x) and math.isfinite(y)
    return FrameMeta(
        frame_id=int(slot["frame_id"]),
        exposure_start_ns=int(slot["exposure_start_ns"]),
        stage_xyz_um=(x, y, z if math.isfinite(z) else 0.0) if known else None,
        channel=bytes(slot["channel"].item()).partition(b"\0")[0].decode("utf-8", "replace")
        or None,
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None
