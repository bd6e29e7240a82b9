"""What was built once is kept: files in the cache folder, found by all they depend on.

The key names everything a file fits: a model, a version, a processor, a tile. So a file of another
machine, or from before an update, is never looked at; it is built anew. Each lies beside a JSON
file that says its key in words and the hash of both, and one that does not have that hash is built
anew too. A folder that cannot be written is no error: these files only save time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from cellseg.runtime.machine.cache_folder import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Built", "BuiltFiles", "digest_of"]


class Built(NamedTuple):
    """A file that was kept."""

    data: bytes
    """What was built."""

    facts: dict[str, Any]
    """What was said of it, as plain values."""


def digest_of(key: Mapping[str, object]) -> str:
    """Return the name of the files of a key, which holds plain values."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


class BuiltFiles:
    """Built files of one kind.

    Parameters
    ----------
    name : str
        Their folder within the cache folder.
    suffix : str
        Of their names.
    kept : int
        How many are kept; the oldest go first.
    """

    def __init__(self, name: str, suffix: str, kept: int) -> None:
        self._name, self._suffix, self._kept = name, suffix, kept

    @property
    def folder(self) -> Path:
        """Their folder; it may be deleted at any time."""
        return cache_folder() / self._name

    def recall(self, key: Mapping[str, object]) -> Built | None:
        """Return what was stored under the key; None if there is none that is whole."""
        try:
            data = self._data_file(key).read_bytes()
            facts = json.loads(self._facts_file(key).read_text(encoding="utf-8"))
            whole = facts.pop("sha256") == _hash(data, facts)
            known = facts["key"] == _plain(key)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return Built(data, facts) if known and whole else None

    def store(self, key: Mapping[str, object], data: bytes, facts: Mapping[str, object]) -> None:
        """Keep a file, with more to say of it as plain values."""
        described = _plain({"key": key, **facts})
        described["sha256"] = _hash(data, described)
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(self._data_file(key), data)
            _write(self._facts_file(key), (json.dumps(described, indent=1) + "\n").encode())
            self._drop_oldest()

    def forget(self, key: Mapping[str, object]) -> None:
        """Remove what turned out not to open."""
        with contextlib.suppress(OSError):
            for file in (self._data_file(key), self._facts_file(key)):
                file.unlink(missing_ok=True)

    def recall_extra(self, name: str) -> bytes:
        """Return a file that was kept by its name; nothing if there is none."""
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return b""

    def store_extra(self, name: str, data: bytes) -> None:
        """Keep a file by its name."""
        if data:
            with contextlib.suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                _write(self.folder / name, data)

    def _data_file(self, key: Mapping[str, object]) -> Path:
        return self.folder / f"{digest_of(key)}{self._suffix}"

    def _facts_file(self, key: Mapping[str, object]) -> Path:
        return self.folder / f"{digest_of(key)}.json"

    def _drop_oldest(self) -> None:
        files = sorted(self.folder.glob(f"*{self._suffix}"), key=lambda path: path.stat().st_mtime)
        for file in files[: -self._kept]:
            file.unlink(missing_ok=True)
            file.with_suffix(".json").unlink(missing_ok=True)


def _hash(data: bytes, facts: Mapping[str, object]) -> str:
    found = hashlib.sha256(data)
    found.update(json.dumps(facts, sort_keys=True).encode())
    return found.hexdigest()


def _plain(key: Mapping[str, object]) -> dict[str, object]:
    plain: dict[str, object] = json.loads(json.dumps(key))
    return plain


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)
