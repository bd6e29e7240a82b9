"""Every way in which a recipe does not fit a data set is said in a sentence."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.data.stats.contents import ImageStats, Stats, measure_data
from cellseg.data.stats.recipe_fit import RecipeNeeds, mismatches
from cellseg.data.stats.report import write_stats
from tests.data.made import write_source

TWO = (("background", (0,)), ("nucleus", (1,)))
FITS = RecipeNeeds("fits", (64, 64), False, True, 8, 30, False, TWO)


def measured(diameters: list[float], wh: tuple[int, int] = (64, 64)) -> Stats:
    """One image with objects of these diameters, and their classes."""
    row = ImageStats("", "a", *wh, 0.1, len(diameters), None, None, 0, 0, 0, 0, 0, 0)
    places = np.zeros(len(diameters), int)
    return Stats(
        [row], diameters_px=np.array(diameters), object_images=places,
        class_values={"nucleus": 1}, has_labels=[True],
    )  # fmt: skip


def test_what_fits_is_not_spoken_of() -> None:
    assert mismatches(measured([20.0]), FITS) == []
    assert mismatches(measured([]), FITS) == []


@pytest.mark.parametrize(
    ("stats", "changes", "says"),
    [
        (measured([20, 20, 20, 40]), {}, "25.0% of the objects are larger than the 30 px"),
        (measured([70]), {"reach_px": None}, "100.0% of the objects are larger than a crop of 64"),
        (measured([20], (60, 90)), {}, "1 of 1 images are smaller than a crop of 64 x 64 px"),
        (measured([20]), {"crop_wh": (60, 64)}, "60 x 64 px is no multiple of the network's"),
        (measured([20]), {"reach_px": 33}, "the network sees 33 px to each side, more than a crop"),
        (measured([20], (6, 64)), {}, "1 images are smaller than the network's stride of 8 px"),
        (
            measured([32], (640, 640)),
            {"reduces": True, "cuts": False},
            "less than 3.2 px wide once an image is reduced to fit 64 x 64 px",
        ),
        (
            measured([4], (20, 20)),
            {"reduces": True, "cuts": False},
            "1 of 1 images are enlarged up to 3.2 times",
        ),
        (
            measured([9], (128, 64)),
            {"reduces": True, "cuts": False},
            "fill less than 50% of an input of 64 x 64 px",
        ),
    ],
)
def test_each_mismatch_of_sizes_is_a_sentence(
    stats: Stats, changes: dict[str, object], says: str
) -> None:
    (found, *_) = [text for text in mismatches(stats, replace(FITS, **changes)) if says in text]
    assert found


def test_objects_of_a_reduced_image_are_compared_at_the_size_that_the_network_sees() -> None:
    whole = replace(FITS, reduces=True, cuts=False)
    assert mismatches(measured([50], (128, 128)), whole) == []  # 25 px of the 30 it sees
    assert "larger than the 30 px" in mismatches(measured([70], (128, 128)), whole)[0]


@pytest.mark.parametrize(
    ("held", "classes", "says"),
    [
        ({"a": 1, "b": 2}, (("background", ()), ("cell", ())), "hold 2 classes (a, b)"),
        ({"a": 1, "b": 2}, TWO, "mask value 2 (b) belongs to no class"),
        ({"a": 1}, (*TWO, ("c", (2,))), "class 'c' is in no mask"),
        ({"a": 1, "b": 2}, (TWO[0], ("cell", (1, 2))), "'cell' is a and b in classes.json"),
    ],
)
def test_classes_are_compared_by_their_values(held: object, classes: object, says: str) -> None:
    stats = measured([20])
    stats.class_values = held
    assert any(says in text for text in mismatches(stats, replace(FITS, classes=classes)))


def test_a_recipe_of_instances_needs_numbered_objects() -> None:
    stats = measured([20])
    assert mismatches(stats, replace(FITS, instances=True)) == []
    stats.has_labels = [False]
    assert "1 of 1 images have no labels/" in mismatches(stats, replace(FITS, instances=True))[0]


def test_notes_are_in_the_table_the_json_and_the_picture(tmp_path: Path) -> None:
    write_source(tmp_path / "in")
    stats, needs = measure_data(tmp_path / "in"), replace(FITS, reach_px=5)
    write_stats(stats, tmp_path / "with", needs=needs)
    write_stats(stats, tmp_path / "without")
    rows = list(csv.DictReader((tmp_path / "with" / "notes.csv").read_text().splitlines()))
    assert any("larger than the 5 px" in row["note"] for row in rows)
    found = json.loads((tmp_path / "with" / "stats.json").read_text())
    assert found["notes"] == [row["note"] for row in rows]
    assert found["recipe"]["reach_px"] == 5
    with_notes, without = (
        cv2.imread(str(tmp_path / name / "stats.png")) for name in ("with", "without")
    )
    assert with_notes.shape[0] > without.shape[0]


def test_the_command_measures_what_the_recipes_network_sees(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    write_source(tmp_path / "in", mask="instances")
    (tmp_path / "in" / "masks").rename(tmp_path / "in" / "labels")
    words = ["data", "stats", str(tmp_path / "in"), "--recipe", "nuclei", "--json"]
    answer = CliRunner().invoke(app, [*words, "--set", "model.levels=2"])
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert found["recipe"] | {"classes": None} == {
        "name": "nuclei", "crop_wh": [192, 192], "reduces": False, "cuts": True, "stride_px": 4,
        "reach_px": 20, "instances": True, "classes": None,
    }  # fmt: skip
    assert any("smaller than a crop of 192 x 192 px" in text for text in found["notes"])
