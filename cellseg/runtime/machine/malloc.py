"""Whether memory that is freed goes back to the system at once, or is kept for the next buffer.

glibc decides this by sizes that adapt to what is freed, which suits neither a run nor a training:
a run promises a peak, and freed tiles would stay in heaps that never shrink; a training step frees
a gigabyte that the next step asks for again, and the system blanks it anew each time. Other C
libraries are left as they are.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EVERY_BUFFER", "LARGE_BUFFERS", "freed_memory_kept", "return_freed_memory"]

EVERY_BUFFER, LARGE_BUFFERS = 128 << 10, 16 << 20

# Of glibc's mallopt(3), with the values it begins with.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_TRIM_THRESHOLD, _MMAP_MAX = 128 << 10, 65_536
_NEVER = -1


def return_freed_memory(from_bytes: int) -> None:
    """Let what is freed go back to the system at once for the rest of the process.

    By default each thread gets a heap of its own, and the size from which on memory comes from the
    system and goes back to it grows with what is freed: tiles then stay in heaps that never shrink.
    Here the threshold stays where it is put, and two heaps serve all threads.

    Parameters
    ----------
    from_bytes : int
        Size from which on memory comes from the system and goes back: `EVERY_BUFFER` holds least,
        but the system blanks each buffer anew, a tenth of a run's time; `LARGE_BUFFERS` costs none.
    """
    _set(
        {
            _M_ARENA_MAX: 2,
            _M_MMAP_THRESHOLD: from_bytes,
            _M_TRIM_THRESHOLD: max(from_bytes, 1 << 20),
        }
    )


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed for the next buffer, in this context.

    TensorFlow on a CPU spends two fifths of a training step's processor time in the system
    without it. It costs a tenth more memory at the peak (``bench/training_step.py``).
    """
    _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER})
    try:
        yield
    finally:
        _set({_M_MMAP_MAX: _MMAP_MAX, _M_TRIM_THRESHOLD: _TRIM_THRESHOLD})


def _set(values: dict[int, int]) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        for parameter, value in values.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)
