"""Small files in which a kernel says what it knows; None or "" where it says nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_number", "read_text"]


def read_number(path: Path) -> int | None:
    """Return the whole number in a file; None if there is none or it may not be read."""
    with suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return None


def read_text(path: Path) -> str:
    """Return the text of a file without the blanks around it; "" if it cannot be read."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip("\n\0 ")
    return ""
