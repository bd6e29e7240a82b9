"""A recipe that means another class by a mask value than ``classes.json`` does is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cellseg.errors import DataError
from cellseg.runtime.bundles.class_file import CLASS_FILE, ClassFile, MaskClass
from cellseg.train.images.class_names import check_class_names
from cellseg.train.images.masks import MaskRule
from cellseg.train.images.pairs import Pair
from cellseg.train.sections import Recipe


def check(folder: Path, classes: dict[str, list[int]], **rule: Any) -> None:
    """Check classes with their values, behind the background, on masks of cytoplasm and nuclei."""
    named = (MaskClass(0, "background"), MaskClass(1, "cytoplasm"), MaskClass(2, "nucleus"))
    if not (folder / CLASS_FILE).exists():
        ClassFile("index", named).write(folder / CLASS_FILE)
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "sources": [{"name": "mine", "path": "."}],
            "target": {"kind": "classes"},
            "classes": [
                {"name": name, "color": [0, 0, 0], "values": values}
                for name, values in {"background": [], **classes}.items()
            ],
        }
    )
    pair = Pair("mine", folder / "train/images/a.png", folder / "train/masks/a.png")
    check_class_names(recipe, MaskRule(recipe.class_list, **rule), [pair])


def test_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 is 'cytoplasm' by the file and 'nucleus' by the"):
        check(tmp_path, {"nucleus": [], "cytoplasm": []})


@pytest.mark.parametrize(
    "classes",
    [
        {"cytoplasm": [], "nucleus": []},
        {"nucleus": [2], "cytoplasm": [1]},
        {"plasm": [], "kernel": []},
        {"nucleus": [1, 2], "other": [3]},
        {"cell": [1, 2]},
    ],
    ids=["same order", "values", "other names", "joined", "one"],
)
def test_what_a_recipe_may_call_them(tmp_path: Path, classes: dict[str, list[int]]) -> None:
    check(tmp_path, classes)


def test_a_class_that_a_found_threshold_takes_for_background_is_refused(tmp_path: Path) -> None:
    check(tmp_path, {"cell": []}, threshold=0)
    with pytest.raises(DataError, match="1 is 'cytoplasm' by the file and 'background' by the"):
        check(tmp_path, {"cell": []}, threshold=1)


def test_a_file_of_that_name_by_another_program_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / CLASS_FILE).write_text("[]", encoding="utf-8")
    check(tmp_path, {"nucleus": [], "cytoplasm": []})
