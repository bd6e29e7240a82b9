"""Writes frames into a ring, from Python: what ``cellseg_ring.h`` does in C."""

from __future__ import annotations

import math
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import RingError
from cellseg.live.frame import FrameMeta
from cellseg.live.ring import layout
from cellseg.live.ring.memory import barrier, map_ring, ring_path
from cellseg.live.ring.reader import RingReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["RingWriter"]

_NUMBER_OF_DTYPE = {dtype: number for number, dtype in layout.PIXEL_DTYPES.items()}
_CHANNEL_BYTES = 63


class RingWriter:
    """The one writer of a ring. It never waits for readers.

    Parameters
    ----------
    name : str
        Name of the shared memory, without a slash. What a dead writer left there is replaced.
    slots : int
        How many frames it holds: a reader has ``slots - 1`` frames' time to take one.
    pixel_bytes : int
        Room for the pixels of a frame.

    Raises
    ------
    RingError
        If a living writer has the name, or a number is out of range.

    Notes
    -----
    A context manager. Call `heartbeat` at least once a second where no frame is published.
    """

    def __init__(self, name: str, slots: int, pixel_bytes: int) -> None:
        if slots < 2 or pixel_bytes < 1:
            raise RingError(
                "A ring has at least 2 slots and room for a pixel. "
                f"Received: slots={slots}, pixel_bytes={pixel_bytes}."
            )
        self.name, self._path = name, ring_path(name)
        _refuse_if_taken(name, self._path)
        self._slots, self._pixel_bytes = slots, pixel_bytes
        self._slot_bytes = layout.slot_bytes_for(pixel_bytes)
        self._map = _make(self._path, layout.HEADER_BYTES + slots * self._slot_bytes)
        self._header: NDArray[Any] = np.ndarray((), layout.HEADER, self._map)
        self._next = 0
        self._fill_header()

    def publish(
        self,
        image: NDArray[Any],
        meta: FrameMeta | None = None,
        *,
        mpp: float | None = None,
        camera_time_ns: int = 0,
    ) -> None:
        """Copy a frame into the next slot and let readers have it.

        Parameters
        ----------
        image : uint8 or uint16, shape (H, W) or (H, W, 1 | 3 | 4)
            The frame.
        meta : FrameMeta, optional
            What is known of it; by default its number and this moment.
        mpp : float, optional
            Microns a pixel.
        camera_time_ns : int
            Time on the camera's own clock.

        Raises
        ------
        RingError
            If it is no image, or larger than a slot, or the ring is closed.
        """
        with self.slot(
            image.shape, image.dtype, meta, mpp=mpp, camera_time_ns=camera_time_ns
        ) as out:
            out[...] = image

    @contextmanager
    def slot(
        self,
        shape: tuple[int, ...],
        dtype: Any,
        meta: FrameMeta | None = None,
        *,
        mpp: float | None = None,
        camera_time_ns: int = 0,
    ) -> Iterator[NDArray[Any]]:
        """Give the next slot's pixels to be filled in place; published at the end of the block.

        Yields
        ------
        ndarray of the given shape and dtype
            In shared memory. If the block raises, nothing is published.
        """
        if int(self._header["state"]) == layout.CLOSED:
            raise RingError(f"A closed ring takes no frames. Received: {self.name} after close.")
        described = self._describe(shape, np.dtype(dtype), meta)
        described["mpp"] = math.nan if mpp is None else mpp
        described["camera_time_ns"] = camera_time_ns
        start = layout.HEADER_BYTES + self._next % self._slots * self._slot_bytes
        sequence: NDArray[np.uint64] = np.ndarray((1,), "<u8", self._map, start)
        described["sequence"] = sequence[0] = 2 * self._next + 1
        barrier()  # no byte of the frame becomes visible before the mark
        np.ndarray((), layout.SLOT, self._map, start)[...] = described
        yield np.ndarray(shape, dtype, self._map, start + layout.HEADER_BYTES)
        barrier()
        sequence[0] = 2 * self._next + 2
        self._next += 1
        barrier()
        self._header["published"] = self._next
        self.heartbeat()

    def heartbeat(self) -> None:
        """Say that the writer lives."""
        self._header["heartbeat_ns"] = time.monotonic_ns()

    def close(self) -> None:
        """Tell readers that no frame will follow, and take the name away."""
        if int(self._header["state"]) == layout.CLOSED:
            return
        self._header["state"] = layout.CLOSED
        with suppress(RingError, FileNotFoundError):  # another writer may have taken the name over
            if RingReader(self.name).session == int(self._header["session"]):
                self._path.unlink()

    def __enter__(self) -> RingWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill_header(self) -> None:
        header, now_ns = self._header, time.monotonic_ns()
        header["abi"] = layout.ABI
        header["header_bytes"] = header["slot_header_bytes"] = layout.HEADER_BYTES
        header["slots"], header["slot_bytes"] = self._slots, self._slot_bytes
        header["pixel_bytes"], header["total_bytes"] = self._pixel_bytes, len(self._map)
        header["session"] = (now_ns ^ os.getpid() << 40) & (2**64 - 1)
        header["writer_pid"] = os.getpid()
        header["state"], header["heartbeat_ns"] = layout.OPEN, now_ns
        barrier()
        header["magic"] = layout.MAGIC  # last: a ring is whole once it is there

    def _describe(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], meta: FrameMeta | None
    ) -> NDArray[Any]:
        """Return a slot's header for a frame without gaps between its rows."""
        is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
        if not is_image or dtype not in _NUMBER_OF_DTYPE or 0 in shape:
            raise RingError(
                "A frame is uint8 or uint16 of shape (H, W) or (H, W, 1 | 3 | 4). "
                f"Received: dtype={dtype}, shape={shape}."
            )
        needed = math.prod(shape) * dtype.itemsize
        if needed > self._pixel_bytes:
            raise RingError(
                f"A frame must fit a slot of {self._pixel_bytes} bytes. "
                f"Received: dtype={dtype}, shape={shape}, {needed} bytes.",
                hint="Make the ring for the largest frame.",
            )
        meta = meta or FrameMeta.now(self._next)
        slot = np.zeros((), layout.SLOT)
        slot["frame_id"], slot["exposure_start_ns"] = meta.frame_id, meta.exposure_start_ns
        slot["dtype"] = _NUMBER_OF_DTYPE[dtype]
        height, width, channels = (*shape, 1)[:3]
        slot["height"], slot["width"], slot["channels"] = height, width, channels
        item = dtype.itemsize
        slot["strides"] = (item * channels * width, item * channels, item)
        slot["stage_um"] = math.nan if meta.stage_xyz_um is None else meta.stage_xyz_um
        name = (meta.channel or "").encode()[:_CHANNEL_BYTES]
        slot["channel"] = name.decode(errors="ignore").encode()  # no half of a character at its end
        return slot


def _refuse_if_taken(name: str, path: Path) -> None:
    """Refuse the name of a living writer's ring, and of memory that is no ring."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        magic = int.from_bytes(file.read(8), "little")
        if magic not in (0, layout.MAGIC):  # 0: its writer died while it made the ring
            raise RingError(
                f"A ring takes no other program's memory. Received: {name!r}, {magic=:#018x}.",
                hint="Take another name.",
            )
    try:
        other = RingReader(name)
    except RingError:
        return
    if other.writer == "alive":
        raise RingError(
            f"A ring has one writer. Received: {name!r}, held by process {other.writer_pid}.",
            hint="Stop that program, or take another name.",
        )


def _make(path: Path, total_bytes: int) -> mmap:
    """Make a memory of zeros under a name; readers of an older one keep theirs."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        os.ftruncate(descriptor, total_bytes)
    finally:
        os.close(descriptor)
    return map_ring(path, writable=True)
