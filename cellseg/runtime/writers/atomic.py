"""A file or folder appears under its name when it is complete, or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cellseg.errors import StoreError
from cellseg.runtime.machine.file_limit import growth_refused
from cellseg.runtime.writers.facts import remove_output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PARTIAL_PREFIX", "can_be_made", "replacing"]

PARTIAL_PREFIX = ".part-"
"""How names of what is not complete yet begin."""


def can_be_made(folder: Path) -> bool:
    """Say whether files could be written to a folder, which need not be there yet."""
    whole = folder.absolute()
    place = next(path for path in (whole, *whole.parents) if path.exists())
    return place.is_dir() and os.access(place, os.W_OK)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write a file or a folder to; rename it at the end of the context.

    Parameters
    ----------
    path : Path
        Final name; what is there stays until it is replaced.

    Yields
    ------
    Path
        Name beside it, hidden and with the same suffix, not there yet. Removed if the context
        raises.

    Raises
    ------
    StoreError
        In place of an OSError: disk full, no permission.
    """
    partial = path.with_name(f"{PARTIAL_PREFIX}{path.name}")
    try:
        remove_output(partial)  # of a run that was killed
        yield partial
        _flush(partial)
        if partial.is_dir():
            remove_output(path)  # a folder with files in it cannot be replaced in one step
        partial.replace(path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        remove_output(partial)


def _flush(path: Path) -> None:
    """Have the bytes on the disk before the name says that they are."""
    for part in path.rglob("*") if path.is_dir() else (path,):
        if part.is_file():
            with part.open("rb+") as file:
                os.fsync(file.fileno())


def _explained(error: OSError, path: Path) -> StoreError:
    if error.errno == errno.EFBIG:
        return growth_refused(path, error.strerror or str(error))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"The disk is full. Received: {path} ({error.strerror}).",
            hint="Free some space and give the same command again: finished tiles are kept.",
        )
    return StoreError(
        f"Results must be written to a folder that can be written. Received: {path} ({error}).",
        hint="Check the disk and its permissions, then give the same command again.",
    )
