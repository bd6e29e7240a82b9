"""What a report says of an output, be it a file or a folder of files."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["output_bytes", "output_facts", "remove_output"]

_BLOCK_BYTES = 1 << 20


def output_bytes(path: Path) -> int | None:
    """Return the size of a file, or of all files in a folder; None if there is none."""
    if not path.exists():
        return None
    return sum(file.stat().st_size for file in _files(path))


def output_facts(path: Path) -> dict[str, Any]:
    """Return size and sha256 of an output.

    The hash of a folder is over the names of its files, sorted, in POSIX form and each ended by a
    zero byte, and their contents, each preceded by its size as eight bytes, little-endian.
    """
    found = hashlib.sha256()
    for file in _files(path):
        if file != path:
            found.update(f"{file.relative_to(path).as_posix()}\0".encode())
            found.update(file.stat().st_size.to_bytes(8, "little"))
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                found.update(block)
    return {"bytes": output_bytes(path), "sha256": found.hexdigest()}


def remove_output(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(path: Path) -> Iterator[Path]:
    """Yield the file itself, or the files of a folder in the order of their POSIX names."""
    if not path.is_dir():
        yield path
        return
    inside = [file for file in path.rglob("*") if file.is_file()]
    yield from sorted(inside, key=lambda file: file.relative_to(path).as_posix())
