"""``classes.json``: what the values of a folder's masks mean.

::

    {"encoding": "index", "classes": [{"value": 0, "name": "background", "color": [0, 0, 0]}, ...]}

``encoding`` is ``binary`` (mask values 0 and 255), ``index`` (class numbers) or ``points``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["CLASS_FILE", "ClassFile", "MaskClass", "find_class_file"]

CLASS_FILE = "classes.json"
_VALUES = 256


@dataclass(frozen=True)
class MaskClass:
    """One class of a folder's masks."""

    value: int
    """Its pixels' value, 0..255."""
    name: str
    """Its name, as models name it."""
    color: tuple[int, int, int] = (255, 255, 255)
    """RGB."""


@dataclass(frozen=True)
class ClassFile:
    """Content of a ``classes.json``."""

    encoding: str
    """``binary``, ``index`` or ``points``."""
    classes: tuple[MaskClass, ...]
    """In order of the file; value 0 is the background."""

    @classmethod
    def read(cls, path: Path) -> ClassFile:
        """Read a file.

        Raises
        ------
        DataError
            If it is no ``classes.json``.
        """
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            classes = tuple(_mask_class(entry) for entry in tree["classes"])
            return cls(str(tree.get("encoding", "index")), classes)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                "classes.json lists classes with value and name. "
                f"Received: {path} ({type(error).__name__}: {error}).",
                hint='e.g. {"encoding": "index", "classes": [{"value": 1, "name": "nucleus"}]}',
            ) from error

    def write(self, path: Path) -> None:
        """Write the file."""
        entries = [
            {"value": item.value, "name": item.name, "color": list(item.color)}
            for item in self.classes
        ]
        tree = {"encoding": self.encoding, "classes": entries}
        path.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")

    def index_table(self, class_names: Sequence[str]) -> NDArray[np.uint8]:
        """Class index of each mask value, by name; uint8, shape (256,).

        Parameters
        ----------
        class_names : sequence of str
            A model's classes, background first.

        Raises
        ------
        DataError
            If the file has a class that the model lacks.
        """
        table = np.zeros(_VALUES, np.uint8)
        for item in self.classes:
            if item.value == 0:
                continue
            if item.name not in class_names:
                raise DataError(
                    f"The classes of a folder must be among the model's, {list(class_names)}. "
                    f"Received: {item.name!r} in {CLASS_FILE}."
                )
            table[item.value] = list(class_names).index(item.name)
        return table


def find_class_file(folder: Path) -> ClassFile | None:
    """Read the ``classes.json`` of a folder or of the one above it; None where neither has one."""
    for place in (folder, *folder.parents[:1]):
        if (place / CLASS_FILE).is_file():
            return ClassFile.read(place / CLASS_FILE)
    return None


def _mask_class(entry: dict[str, Any]) -> MaskClass:
    value = int(entry["value"])
    if not 0 <= value < _VALUES:
        raise ValueError(f"value={value} is not in 0..255")
    red, green, blue = map(int, entry.get("color", (255, 255, 255)))
    return MaskClass(value, str(entry["name"]), (red, green, blue))
