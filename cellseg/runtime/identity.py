"""What a result depends on is kept with it: which slide, and whether it is the same run."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellseg.errors import StoreError
from cellseg.runtime.slide import ArraySlide

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cellseg.runtime.slide import Slide

__all__ = ["check_same_run", "slide_identity"]

_END_BYTES = 1 << 20


def slide_identity(slide: Slide) -> str:
    """Return a sha256 that changes when a slide is replaced by another one.

    Parameters
    ----------
    slide : Slide
        Open slide.

    Returns
    -------
    str
        64 hexadecimal digits over the file's size, its first and last megabyte and the levels; not
        over its name or modification time, so that a slide may be moved. For a slide of several
        files each of them counts; for an OME-Zarr folder the metadata, and name and size of each
        chunk; an array counts whole.
    """
    found = hashlib.sha256()
    for level in slide.levels:
        found.update(f"{level.width_px}x{level.height_px}@{level.downsample!r};".encode())
    if isinstance(slide, ArraySlide) and not Path(slide.path).is_file():
        found.update(slide.digest().encode())
        return found.hexdigest()
    path = Path(slide.path)
    if path.is_dir():
        _hash_folder(path, found.update)
        return found.hexdigest()
    for file in _files_of(path):
        _hash_ends(file, found.update)
    return found.hexdigest()


def check_same_run(
    found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path, noun: str
) -> None:
    """Refuse to go on with another run's result.

    Parameters
    ----------
    found, wanted : mapping
        Identities.
    folder : Path
        For the message.
    noun : str
        What the folder holds.

    Raises
    ------
    StoreError
        Naming what differs.
    """
    keys = sorted(found.keys() | wanted.keys())
    differing = [key for key in keys if found.get(key) != _as_json(wanted.get(key))]
    if not differing:
        return
    facts = "; ".join(
        f"{key} was {_short(found.get(key))}, is {_short(wanted.get(key))}" for key in differing
    )
    raise StoreError(
        f"The folder holds {noun} that differs. Received: folder={folder}, {facts}.",
        hint="Start over with --restart, or choose another folder with -o.",
    )


def _files_of(path: Path) -> Iterator[Path]:
    """Yield the file, and what lies in the folder that an MRXS or DICOM slide consists of."""
    yield path
    companion = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and companion.is_dir():
        yield from sorted(file for file in companion.iterdir() if file.is_file())
    if path.suffix.lower() == ".dcm":
        yield from sorted(file for file in path.parent.glob("*.dcm") if file != path)


def _hash_folder(path: Path, update: Any) -> None:
    """Hash what a folder of chunks holds, without reading millions of them."""
    for folder, inside, files in sorted(os.walk(path)):
        inside.sort()
        for file in (Path(folder, name) for name in sorted(files)):
            update(f"{file.relative_to(path).as_posix()}:{file.stat().st_size};".encode())
            if file.name in ("zarr.json", ".zattrs", ".zarray", ".zgroup"):
                update(file.read_bytes())


def _hash_ends(path: Path, update: Any) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        update(f"{size};".encode())
        update(file.read(_END_BYTES))
        file.seek(max(0, size - _END_BYTES))
        update(file.read(_END_BYTES))


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
