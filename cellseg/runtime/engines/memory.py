"""What was measured once is remembered: a small JSON file in the user's cache folder.

The file only saves time. If it cannot be read or written, the trial is run again; and so it is,
once the machine is quiet, if other processes took its cores when it was measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import TYPE_CHECKING, TypedDict

from cellseg.runtime.engines.bystanders import is_busy
from cellseg.runtime.machine.cache_folder import cache_folder

if TYPE_CHECKING:
    from typing import TypeGuard

__all__ = ["forget", "recall", "remember"]

_FILE = "engines.json"
_KEPT = 200  # entries; the oldest go first


def recall(key: dict[str, object]) -> str | None:
    """Return what was remembered under the key, if it can still be relied on."""
    entry = _read().get(_digest(key))
    if entry is None or (entry["disturbed"] and not is_busy()):
        return None
    return entry["value"]


def remember(key: dict[str, object], value: str, *, disturbed: bool = False) -> None:
    """Keep a value under the key; a folder that cannot be written is no error.

    Parameters
    ----------
    key : dict
        JSON values.
    value : str
        What was found.
    disturbed : bool
        Whether others took part of the machine meanwhile: then it serves only as long as they do.
    """
    entries = _read()
    entries.pop(_digest(key), None)
    entries[_digest(key)] = {"value": value, "disturbed": disturbed}
    _write(dict(list(entries.items())[-_KEPT:]))


def forget(key: dict[str, object]) -> None:
    """Drop what was remembered under the key: it turned out to be of no use."""
    entries = _read()
    if entries.pop(_digest(key), None) is not None:
        _write(entries)


class _Entry(TypedDict):
    value: str
    disturbed: bool


def _write(entries: dict[str, _Entry]) -> None:
    with contextlib.suppress(OSError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{_FILE}.{os.getpid()}"
        partial.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        partial.replace(folder / _FILE)


def _read() -> dict[str, _Entry]:
    try:
        found = json.loads((cache_folder() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {str(key): entry for key, entry in entries if _is_entry(entry)}


def _is_entry(entry: object) -> TypeGuard[_Entry]:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("value"), str)
        and isinstance(entry.get("disturbed"), bool)
    )


def _digest(key: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
