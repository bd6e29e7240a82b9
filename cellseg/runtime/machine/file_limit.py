"""How large a file may become here, and what is said when one would become larger."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cellseg.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["growth_refused", "largest_file_bytes"]


def largest_file_bytes() -> int | None:
    """Return how many bytes a file of this process may have; None where there is no limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if limit == resource.RLIM_INFINITY else limit


def growth_refused(path: Path | str, text: str) -> StoreError:
    """Return the error of a file that may not become larger, though the disk may have room.

    Parameters
    ----------
    path : Path or str
        The file.
    text : str
        What the system says.
    """
    limit = largest_file_bytes()
    if limit is None:  # then it is the disk's: FAT32 ends at 4 GiB
        return StoreError(
            f"Files must be allowed to grow. Received: {path} ({text}).",
            hint="The disk's file system holds no larger files: choose a folder on another disk.",
        )
    return StoreError(
        f"Files must be allowed to grow. Received: {path} ({text}), limit={limit} bytes.",
        hint="Lift the limit (ulimit -f unlimited) and give the same command again: finished "
        "tiles are kept.",
    )
