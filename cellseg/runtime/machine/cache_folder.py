"""Where what only saves time is kept between runs: choices of engines, what was compiled."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Folder for what may be deleted at any time; ``CELLSEG_CACHE`` sets another.

    A user without a home directory, as in a container, gets one that cannot be made.
    """
    if chosen := os.environ.get("CELLSEG_CACHE"):
        return Path(chosen)
    try:
        return _users_cache() / "cellseg"
    except RuntimeError:  # no home directory
        return Path(os.devnull, "cellseg")


def _users_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
