"""What a result depends on is kept with it: which slide, and whether it is the same run."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import StoreError
from cellseg.runtime.slides.readers import files_of_series
from cellseg.runtime.slides.slide import ArraySlide

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cellseg.runtime.slides.slide import Slide

__all__ = ["check_same_run", "content_hash", "slide_identity"]

_WHOLE_BYTES = 64 << 20
"""A file up to this is hashed whole, which takes a twentieth of a second."""
_END_BYTES = 1 << 20
_SAMPLES, _SAMPLE_BYTES = 32, 1 << 16


def slide_identity(slide: Slide) -> str:
    """Return a sha256 that changes when a slide is replaced by another one.

    Parameters
    ----------
    slide : Slide
        Open slide.

    Returns
    -------
    str
        64 hexadecimal digits over the file's bytes and the levels; of a file beyond 64 MiB over its
        size, its first and last megabyte and samples between. Not over its name or modification
        time, so that a slide may be moved. For a slide of several files each of them counts; for an
        OME-Zarr folder the metadata, name and size of each chunk, and what the chunks hold, or
        beyond 64 MiB both ends of some of them; an array counts whole.
    """
    found = hashlib.sha256()
    for level in slide.levels:
        found.update(f"{level.width_px}x{level.height_px}@{level.downsample!r};".encode())
    if isinstance(slide, ArraySlide) and not Path(slide.path).is_file():
        found.update(slide.digest().encode())
        return found.hexdigest()
    _hash_content(Path(slide.path), found.update)
    return found.hexdigest()


def content_hash(path: Path) -> str:
    """Return a sha256 of what a file holds: the same image under another name is the same image.

    Of a file beyond 64 MiB, and of a folder, see `slide_identity`.
    """
    found = hashlib.sha256()
    _hash_content(path, found.update)
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
        yield from (file for file in files_of_series(path) if file != path)


def _hash_content(path: Path, update: Any) -> None:
    if path.is_dir():
        _hash_folder(path, update)
        return
    for file in _files_of(path):
        _hash_file(file, update)


def _hash_folder(path: Path, update: Any) -> None:
    """Hash what a folder of chunks holds, without reading millions of them."""
    chunks: list[tuple[Path, int]] = []
    for folder, inside, files in sorted(os.walk(path)):
        inside.sort()
        for file in (Path(folder, name) for name in sorted(files)):
            size = file.stat().st_size
            update(f"{file.relative_to(path).as_posix()}:{size};".encode())
            if file.name in ("zarr.json", ".zattrs", ".zarray", ".zgroup"):
                update(file.read_bytes())
            else:
                chunks.append((file, size))
    if sum(size for _, size in chunks) <= _WHOLE_BYTES:
        for file, _ in chunks:
            _hash_file(file, update)
        return
    for index in np.linspace(0, len(chunks) - 1, min(len(chunks), _SAMPLES)).astype(int):
        file, size = chunks[index]
        with file.open("rb") as opened:
            for start in (0, max(0, size - _SAMPLE_BYTES)):
                opened.seek(start)
                update(opened.read(_SAMPLE_BYTES))


def _hash_file(path: Path, update: Any) -> None:
    size = path.stat().st_size
    update(f"{size};".encode())
    with path.open("rb") as file:
        for start, count in _pieces(size):
            file.seek(start)
            update(file.read(count))


def _pieces(size: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of what is read of a file: all, or its ends and samples between."""
    if size <= _WHOLE_BYTES:
        yield from ((start, _END_BYTES) for start in range(0, size, _END_BYTES))
        return
    yield 0, _END_BYTES
    yield from ((size * i // (_SAMPLES + 1), _SAMPLE_BYTES) for i in range(1, _SAMPLES + 1))
    yield size - _END_BYTES, _END_BYTES


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
