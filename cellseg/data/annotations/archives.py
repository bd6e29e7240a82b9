"""Archives are unpacked with suspicion: they can escape their folder, and unpack to terabytes.

Every member is checked before the first byte is written: plain relative names, files and folders
only, a bounded number and size. While unpacking, the bytes that really come out are counted too,
for the sizes that an archive states may be lies.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["is_archive", "unpack"]

MAX_BYTES = 64 << 30
MAX_MEMBERS = 2_000_000
MAX_RATIO = 200
"""Unpacked over packed; images hardly shrink, masks by 100 at most in practice."""
_RATIO_FROM_BYTES = 64 << 20
_CHUNK = 1 << 20


def is_archive(path: Path) -> bool:
    """Tell whether a file is a zip or tar archive, by its content."""
    return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def unpack(path: Path, folder: Path) -> None:
    """Unpack an archive into a new folder.

    Parameters
    ----------
    path : Path
        ``.zip``, ``.tar``, ``.tar.gz`` and so on.
    folder : Path
        Made; only files below it are written.

    Raises
    ------
    DataError
        If a member leaves the folder, is a link or a device, or the archive unpacks to far more
        than it holds.
    """
    folder.mkdir(parents=True)
    budget = _Budget(path)
    try:
        if zipfile.is_zipfile(path):
            _unpack_zip(path, folder, budget)
        else:
            _unpack_tar(path, folder, budget)
    except (
        zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError,
        RuntimeError,
    ) as error:  # fmt: skip
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"An archive must be whole and readable. Received: {path} ({error})."
        ) from error


class _Budget:
    """Bytes that may still come out of an archive."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = min(MAX_BYTES, max(_RATIO_FROM_BYTES, path.stat().st_size * MAX_RATIO))

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise DataError(
                f"An archive may unpack to at most {MAX_RATIO} times its size. "
                f"Received: {self._path}, which unpacks to more: a zip bomb?",
                hint="If you trust it, unpack it yourself and give the folder.",
            )


def _unpack_zip(path: Path, folder: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_count(path, len(members))
        targets = [_target(path, folder, member.filename) for member in members]
        for member in members:
            if (member.external_attr >> 16) & 0o170000 == 0o120000:
                raise _refused(path, member.filename, "a link")
        _check_declared(members_bytes=sum(m.file_size for m in members), budget=_Budget(path))
        for member, target in zip(members, targets, strict=True):
            if not member.is_dir():
                with archive.open(member) as source:
                    _copy(source, target, budget)


def _unpack_tar(path: Path, folder: Path, budget: _Budget) -> None:
    with tarfile.open(path) as archive:
        checked = list(_checked_tar(path, folder, archive))
        _check_declared(sum(member.size for member, _ in checked), _Budget(path))
        for member, target in checked:
            source = archive.extractfile(member)
            if source is not None:
                with source:
                    _copy(source, target, budget)


def _checked_tar(
    path: Path, folder: Path, archive: tarfile.TarFile
) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    for count, member in enumerate(archive):
        _check_count(path, count)
        target = _target(path, folder, member.name)
        if member.isdir():
            continue
        if not member.isfile():
            raise _refused(path, member.name, "a link or device")
        yield member, target


def _check_declared(members_bytes: int, budget: _Budget) -> None:
    budget.spend(members_bytes)


def _check_count(path: Path, count: int) -> None:
    if count > MAX_MEMBERS:
        raise DataError(f"An archive may hold at most {MAX_MEMBERS} files. Received: {path}.")


def _target(path: Path, folder: Path, name: str) -> Path:
    """Where a member goes; refuses names that could lead elsewhere on any system."""
    plain = name.replace("\\", "/")
    parts = PurePosixPath(plain).parts
    if not plain or plain.startswith("/") or ".." in parts or re.match(r"^[A-Za-z]:", plain):
        raise _refused(path, name, "outside the folder")
    return folder.joinpath(*parts)


def _refused(path: Path, name: str, why: str) -> DataError:
    return DataError(
        "An archive holds plain files below one folder. "
        f"Received: {path} with {name!r}, which is {why}.",
        hint="Nothing was written. Do not trust this archive.",
    )


def _copy(source: IO[bytes], target: Path, budget: _Budget) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        while chunk := source.read(_CHUNK):
            budget.spend(len(chunk))
            file.write(chunk)
