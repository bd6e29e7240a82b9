"""Files of JSON values, one a line: what was written before a kill can be read after it."""

from __future__ import annotations

import json
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

__all__ = ["JsonLines", "read_lines"]


class JsonLines:
    """A file of JSON values, one a line, each flushed before the next. Any thread may add."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        self._file: TextIO = path.open("a", encoding="utf-8")

    def add(self, value: dict[str, Any]) -> None:
        """Add a line; after `close` it is lost."""
        with self._lock:
            if not self._file.closed:
                self._file.write(json.dumps(value) + "\n")
                self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole objects of a JSON lines file; a torn last line of a kill is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                continue
            try:
                found = json.loads(line)
            except ValueError:  # a damaged disk, or an editor
                continue
            if isinstance(found, dict):
                yield found
