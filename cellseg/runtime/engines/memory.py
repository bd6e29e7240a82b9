"""What was measured once is remembered: a small JSON file in the user's cache folder.

The file only saves time. If it cannot be read or written, the trial is run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path

__all__ = ["cache_folder", "recall", "remember"]

_FILE = "engines.json"
_KEPT = 200  # entries; the oldest go first


def cache_folder() -> Path:
    """Folder for what may be deleted at any time; ``CELLSEG_CACHE`` sets another."""
    if chosen := os.environ.get("CELLSEG_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "cellseg"


def recall(key: dict[str, object]) -> str | None:
    """Return what was remembered under the key, if anything."""
    return _read().get(_digest(key))


def remember(key: dict[str, object], value: str) -> None:
    """Keep a value under the key; a folder that cannot be written is no error."""
    entries = _read()
    entries.pop(_digest(key), None)
    entries[_digest(key)] = value
    kept = dict(list(entries.items())[-_KEPT:])
    with contextlib.suppress(OSError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{_FILE}.{os.getpid()}"
        partial.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        partial.replace(folder / _FILE)


def _read() -> dict[str, str]:
    try:
        found = json.loads((cache_folder() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {str(key): value for key, value in entries if isinstance(value, str)}


def _digest(key: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
