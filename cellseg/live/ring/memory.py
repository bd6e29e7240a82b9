"""Shared memory by name, and the order in which its bytes become visible."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from threading import Lock

from cellseg.errors import RingError

__all__ = ["barrier", "map_ring", "ring_path"]

_SHM = Path("/dev/shm")  # where Linux keeps POSIX shared memory
_MAX_NAME = 200
_lock = Lock()


def barrier() -> None:
    """Keep memory accesses before this call before those after it.

    Python has no fence of its own. x86-64 keeps the order that the ring needs (stores among stores,
    loads among loads) by itself. On ARM a lock that is released and taken again does: the release
    waits for what came before it, and what comes after waits for the taking.
    """
    with _lock:
        pass
    with _lock:
        pass


def ring_path(name: str) -> Path:
    """Return the file behind a ring's name.

    Raises
    ------
    RingError
        If it is no name, or this system has no ``/dev/shm``.
    """
    plain = name.removeprefix("/")  # shm_open wants it, users need not write it
    if not plain or "/" in plain or "\0" in plain or plain in (".", "..") or len(plain) > _MAX_NAME:
        raise RingError(
            f"A ring's name has 1 to {_MAX_NAME} characters and no slash. Received: name={name!r}."
        )
    if not _SHM.is_dir():
        raise RingError(
            f"A ring needs POSIX shared memory at {_SHM}, as Linux has it. Received: no {_SHM}."
        )
    return _SHM / plain


def map_ring(path: Path, writable: bool = False) -> mmap.mmap:
    """Map a whole file of shared memory.

    Raises
    ------
    OSError
        If there is none, or it may not be opened.
    RingError
        If it is empty: it is being made at this moment.
    """
    descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
    try:
        if os.fstat(descriptor).st_size == 0:
            raise RingError(f"A ring is not empty. Received: {path.name} of 0 bytes.")
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        return mmap.mmap(descriptor, 0, access=access)
    finally:
        os.close(descriptor)
