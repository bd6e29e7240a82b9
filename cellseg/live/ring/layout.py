"""The bytes of a ring, version 1: the twin of ``cellseg_ring.h``.

::

    0            256          256 + slot_bytes
    | header     | slot 0     | slot 1     | ...
                 |            |
                 | 256 bytes of slot header | pixel_bytes of pixels | up to a multiple of 256
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import RingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ABI",
    "CLOSED",
    "HEADER",
    "HEADER_BYTES",
    "MAGIC",
    "OPEN",
    "PIXEL_DTYPES",
    "SLOT",
    "check_header",
    "pixel_reach",
    "slot_bytes_for",
]

MAGIC = int.from_bytes(b"CLLGRING", "little")
ABI = 1
HEADER_BYTES = 256
OPEN, CLOSED = 1, 2
PIXEL_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype(np.uint8), 2: np.dtype("<u2")}
"""Pixel type of each dtype number."""

HEADER = np.dtype(
    {
        "names": [
            *("magic", "abi", "header_bytes", "slot_header_bytes", "slots", "slot_bytes"),
            *("pixel_bytes", "total_bytes", "session", "writer_pid"),
            *("state", "heartbeat_ns", "published"),
        ],
        "formats": ["<u8", *["<u4"] * 4, *["<u8"] * 8],
        "offsets": [0, 8, 12, 16, 20, *range(24, 88, 8)],
        "itemsize": HEADER_BYTES,
    }
)
SLOT = np.dtype(
    {
        "names": [
            *("sequence", "frame_id", "exposure_start_ns", "camera_time_ns"),
            *("dtype", "channels", "height", "width", "strides", "stage_um", "mpp", "channel"),
        ],
        "formats": [
            *("<u8", "<u8", "<i8", "<i8", "<u4", "<u4", "<u4", "<u4"),
            *(("<i8", 3), ("<f8", 3), "<f8", "S64"),
        ],
        "offsets": [0, 8, 16, 24, 32, 36, 40, 44, 48, 72, 96, 104],
        "itemsize": HEADER_BYTES,
    }
)
_REBUILD = "Build the camera program with the cellseg_ring.h of this cellseg."


def slot_bytes_for(pixel_bytes: int) -> int:
    """Return the distance of two slots, in bytes: header and pixels, up to a multiple of 256."""
    return HEADER_BYTES + -(-pixel_bytes // 256) * 256


def check_header(name: str, header: NDArray[Any], file_bytes: int) -> None:
    """Refuse a header that is not ours, of another version, or larger than its memory.

    Raises
    ------
    RingError
        Which says what is wrong.
    """
    magic, abi = int(header["magic"]), int(header["abi"])
    if magic != MAGIC:
        raise RingError(
            f"A ring begins with {MAGIC:#018x}. Received: {name} with magic={magic:#018x}.",
            hint="The name belongs to another program's memory, or the ring is being made.",
        )
    if abi != ABI:
        raise RingError(
            f"This cellseg reads rings of ABI version {ABI}. Received: {name} with abi={abi}.",
            hint=_REBUILD,
        )
    slots, slot_bytes, pixels = (int(header[key]) for key in ("slots", "slot_bytes", "pixel_bytes"))
    sizes = (int(header["header_bytes"]), int(header["slot_header_bytes"]))
    fits = sizes == (HEADER_BYTES, HEADER_BYTES) and slot_bytes == slot_bytes_for(pixels)
    if slots < 2 or not fits:
        raise RingError(
            f"A ring has headers of {HEADER_BYTES} bytes and at least 2 slots that hold their "
            f"pixels. Received: {name} with headers={sizes}, slots={slots}, "
            f"slot_bytes={slot_bytes}, pixel_bytes={pixels}.",
            hint=_REBUILD,
        )
    total = HEADER_BYTES + slots * slot_bytes
    if not int(header["total_bytes"]) == total <= file_bytes:
        raise RingError(
            f"A ring of {slots} slots of {slot_bytes} bytes takes {total} bytes. Received: {name} "
            f"with total_bytes={int(header['total_bytes'])} in a memory of {file_bytes} bytes.",
            hint=_REBUILD,
        )


def pixel_reach(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> int:
    """Return how many bytes from its first pixel on an image reaches; strides are not negative."""
    return sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + itemsize
