"""A file appears under its name when it is complete, or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cellseg.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to; rename it to ``path`` at the end of the context.

    Parameters
    ----------
    path : Path
        Final name; a file that is there stays until it is replaced.

    Yields
    ------
    Path
        Name beside it, hidden and with the same suffix. Removed if the context raises.

    Raises
    ------
    StoreError
        In place of an OSError: disk full, no permission.
    """
    partial = path.with_name(f".part-{path.name}")
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the bytes on the disk before the name says that they are."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _explained(error: OSError, path: Path) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(
            f"The disk is full. Received: {path} ({error.strerror}).",
            hint="Free some space and give the same command again: finished tiles are kept.",
        )
    return StoreError(
        f"Results must be written to a folder that can be written. Received: {path} ({error}).",
        hint="Check the disk and its permissions, then give the same command again.",
    )
