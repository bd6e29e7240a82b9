"""A source without masks, all background: in training only, and without what is left out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.train.images.pairs import find_pairs, masks_of
from cellseg.train.recipes.recipe import load_recipe
from cellseg.train.sections import Recipe
from cellseg.train.tasks.class_task import ClassTask


def write(folder: Path, names: list[str], masked: bool) -> None:
    (folder / "images").mkdir(parents=True)
    for name in names:
        image = np.full((40, 40, 3), 200, np.uint8)
        mask = np.zeros((40, 40), np.uint8)
        mask[10:20, 10:20] = 1
        if masked:
            (folder / "masks").mkdir(exist_ok=True)
            cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image - 100 * mask[..., None])


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for split in ("train", "valid"):
        write(tmp_path / "cells" / split, ["a", "b"], masked=True)
    write(tmp_path / "fields" / "train", ["x", "y", "z"], masked=False)
    return Recipe.model_validate(
        {
            "name": "cells",
            "model": {"base_filters": 4, "levels": 2},
            "sources": [
                {"name": "cells", "path": "cells"},
                {"name": "fields", "path": "fields", "background": True, "without": ["y"]},
            ],
            "classes": [
                {"name": "background", "color": [0, 0, 0]},
                {"name": "cell", "color": [255, 0, 0], "values": [1]},
            ],
            "input": {"size_px": [32, 32], "fit": "native"},
            "target": {"kind": "classes"},
        }
    )


def test_a_background_source_belongs_to_training_alone(recipe: Recipe, tmp_path: Path) -> None:
    train = find_pairs(recipe, tmp_path, "train")
    assert [pair.stem for pair in train] == ["a", "b", "x", "z"]
    assert [path.parent.parent.parent.name for path in masks_of(train)] == ["cells", "cells"]
    assert [pair.stem for pair in find_pairs(recipe, tmp_path, "valid")] == ["a", "b"]


def test_its_pixels_are_background(recipe: Recipe, tmp_path: Path) -> None:
    task = ClassTask(recipe, tmp_path)
    stems = [pair.stem for pair in task.stock.pairs]
    shown = [bool(task.stock.original(index).classes.any()) for index in range(len(stems))]
    assert dict(zip(stems, shown, strict=True)) == {"a": True, "b": True, "x": False, "z": False}


def test_it_is_not_warned_of_as_masks_without_anything(
    recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cv2.imwrite(str(tmp_path / "cells/train/masks/b.png"), np.zeros((40, 40), np.uint8))
    ClassTask(recipe, tmp_path)
    (said,) = (text for text in caplog.messages if "background only" in text)
    assert said.startswith("1 of 2 training masks")


def test_the_shipped_blood_recipe_fits_its_data(shared_data: Path) -> None:
    blood = load_recipe("blood")
    train = find_pairs(blood, shared_data, "train")
    assert (len(train), len(masks_of(train))) == (168 + 33, 168)
    assert len(find_pairs(blood, shared_data, "valid")) == 30
