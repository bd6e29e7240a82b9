"""A recipe's classes against those that a data set's ``classes.json`` names.

A recipe that lists them in another order reads every mask without a fault, and learns to call one
class by the name of another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.errors import DataError
from cellseg.runtime.bundles.class_file import CLASS_FILE, find_class_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cellseg.runtime.bundles.class_file import MaskClass
    from cellseg.train.images.masks import MaskRule
    from cellseg.train.images.pairs import Pair
    from cellseg.train.sections import Recipe

__all__ = ["check_class_names"]


def check_class_names(recipe: Recipe, rule: MaskRule, pairs: Iterable[Pair]) -> None:
    """Check that masks are read as the classes that their ``classes.json`` names.

    Names that the recipe does not have are its own affair: it may call a class something else, or
    read several as one.

    Raises
    ------
    DataError
        If a class is read as another of the recipe, or falls below a threshold that was found.
    """
    table = rule.index_table()
    if table is None:  # colours say what they are
        return
    names = [item.name for item in recipe.class_list]
    is_found = rule.threshold is not None and recipe.mask.threshold is None
    for folder in sorted({pair.mask.parent.parent for pair in pairs if pair.mask is not None}):
        for item in _held(folder):
            seen = int(table[item.value])
            is_lost = is_found and seen == 0
            if seen < len(names) and (is_lost or item.name in names) and names[seen] != item.name:
                raise DataError(
                    f"a recipe and {CLASS_FILE} must mean the same by a mask value. Received: in "
                    f"{folder}, {item.value} is {item.name!r} by the file and {names[seen]!r} by "
                    "the recipe.",
                    hint=f"write values = [{item.value}] under the class of the recipe that "
                    f"{item.name!r} belongs to, and so for the others.",
                )


def _held(folder: Path) -> list[MaskClass]:
    """Foreground classes that are named for a folder's masks; none where no file names them."""
    try:
        found = find_class_file(folder)
    except DataError:  # some other program's file of that name, which nothing here needs
        return []
    return [] if found is None else [item for item in found.classes if item.value > 0]
