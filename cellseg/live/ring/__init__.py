"""Frames in shared memory: a camera program in any language writes, cellseg reads.

The bytes are described in ``docs/ring.md`` and by the C header in `include_dir`.

>>> import subprocess
>>> from cellseg.live.ring import include_dir
>>> (include_dir() / "cellseg_ring.h").is_file()
True
"""

from __future__ import annotations

from pathlib import Path

from cellseg.live.ring.reader import RingFrame, RingReader
from cellseg.live.ring.writer import RingWriter

__all__ = ["RingFrame", "RingReader", "RingWriter", "include_dir"]


def include_dir() -> Path:
    """Folder of ``cellseg_ring.h``, for a compiler's ``-I``."""
    return Path(__file__).parents[1] / "include"
