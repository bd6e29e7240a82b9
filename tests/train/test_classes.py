"""A model of several classes: trained on masks, scored class by class, read by the runtime."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.errors import DataError, RecipeError  # noqa: E402
from cellseg.runtime.manifest import ModelCard  # noqa: E402
from cellseg.train.data import load_recipe_source  # noqa: E402
from cellseg.train.evaluate_classes import (  # noqa: E402
    ClassScore,
    format_class_table,
    summarize_classes,
)
from cellseg.train.fit import train, validation_dice  # noqa: E402
from cellseg.train.losses import ClassesLoss  # noqa: E402
from cellseg.train.recipe import Recipe, load_recipe  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CLASSES = [
    {"value": 0, "name": "background", "color": [0, 0, 0]},
    {"value": 128, "name": "rim", "color": [0, 200, 0]},
    {"value": 255, "name": "core", "color": [200, 0, 0]},
]


def write_rings(folder: Path, count: int) -> None:
    """Grey discs with a bright core; mask values as the upstream of white-cell data has them."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    y, x = np.mgrid[:48, :48]
    for index in range(count):
        distance = np.hypot(y - 20 - index, x - 24)
        mask = np.select([distance < 6, distance < 14], [255, 128], 0).astype(np.uint8)
        image = np.repeat((20 + mask * 0.8).astype(np.uint8)[..., None], 3, -1)
        cv2.imwrite(str(folder / "images" / f"{index}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"{index}.png"), mask)


@pytest.fixture
def rings(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("valid", 1)):
        write_rings(tmp_path / "rings" / split, count)
    (tmp_path / "rings" / "classes.json").write_text(
        json.dumps({"encoding": "index", "classes": CLASSES})
    )
    return tmp_path


def recipe(**sections: dict) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "rings",
            "model": {"base_filters": 4, "levels": 2, "head_filters": 4},
            "sources": [{"name": "rings", "path": "rings"}],
            "normalize": {"kind": "none"},
            "target": {"kind": "classes"},
            "fit": {"crop_px": 32, "batch": 2, "steps_per_epoch": 15, "epochs": 1},
            # In another order than the masks' values.
            "bundle": {
                "classes": [
                    {"name": "core", "color": [200, 0, 0]},
                    {"name": "rim", "color": [0, 200, 0]},
                ]
            },
        }
        | sections
    )


def test_mask_values_become_the_models_classes_by_name(rings: Path) -> None:
    (item,) = load_recipe_source(recipe(), recipe().sources[0], rings, "valid")
    assert item.labels[20, 24] == 1
    assert item.labels[20, 34] == 2
    assert item.labels[0, 0] == 0


def test_a_class_that_the_recipe_lacks_is_named(rings: Path) -> None:
    short = recipe(bundle={"classes": [{"name": "core", "color": [200, 0, 0]}]})
    with pytest.raises(DataError, match="'rim'"):
        load_recipe_source(short, short.sources[0], rings, "train")


def test_a_run_of_classes_is_readable_as_a_model_card(rings: Path, tmp_path: Path) -> None:
    run = train(recipe(), rings, tmp_path / "run")
    card = ModelCard.model_validate_json((run / "model.json").read_bytes())
    assert [item.name for item in card.classes] == ["background", "core", "rim"]
    assert [item.class_index for item in card.channels] == [0, 1, 2]
    assert card.head.instances is None
    assert card.threshold is None
    model = keras.saving.load_model(run / "best.keras", compile=False)
    assert model.output_shape[-1] == 3
    assert (run / "contact.jpg").is_file()


def test_the_loss_falls_with_the_share_of_right_pixels() -> None:
    truth = np.zeros((1, 8, 8, 2), np.float32)
    truth[..., 1], truth[:, :4, :, 0], truth[:, 4:, :4, 0] = 1, 1, 2
    right = np.eye(3, dtype=np.float32)[truth[..., 0].astype(int)]
    even = np.full_like(right, 1 / 3)
    wrong = np.roll(right, 1, -1)
    losses = [float(ClassesLoss()(truth, p)) for p in (right, even, wrong)]
    assert losses == sorted(losses)
    assert losses[0] < 1e-3
    # By hand: cross-entropy log 3; Dice of class 1 (2*32/3+1)/(32+64/3+1), of class 2 half of it.
    dices = [(2 * n / 3 + 1) / (n + 64 / 3 + 1) for n in (32, 16)]
    assert losses[1] == pytest.approx(np.log(3) + 1 - np.mean(dices), rel=1e-5)


def test_validation_averages_the_classes() -> None:
    labels = np.array([[1, 1, 2, 0]], np.uint16)
    predicted = np.eye(3, dtype=np.float32)[[[1, 1, 0, 0]]]
    assert validation_dice(predicted, labels, by_class=True) == pytest.approx(0.5)
    assert validation_dice(predicted, labels, by_class=False) == pytest.approx(0.8)


def test_scores_are_averaged_by_source_and_class() -> None:
    scores = [ClassScore("a", "x", 1, {"core": 1.0, "rim": 0.5})]
    scores += [ClassScore("a", "y", 1, {"core": 0.5, "rim": 0.5})]
    (mean,) = summarize_classes(scores)
    assert (mean.images, mean.dice) == (2, {"core": 0.75, "rim": 0.5})
    assert "| a | 2 | 0.750 | 0.500 | 0.625 |" in format_class_table([mean])


@pytest.mark.parametrize("kind", ["classes", "interior-border"])
def test_classes_and_their_target_go_together(kind: str, tmp_path: Path) -> None:
    named = '[bundle]\nclasses = [{ name = "core", color = [1, 2, 3] }]\n'
    text = f'name = "x"\nsources = [{{ name = "a", path = "a" }}]\n[target]\nkind = "{kind}"\n'
    path = tmp_path / "x.toml"
    path.write_text(text + (named if kind == "interior-border" else ""))
    with pytest.raises(RecipeError, match=r"target\.kind is 'classes' where"):
        load_recipe(path)


def test_the_shipped_blood_recipe_names_the_classes_of_its_data(shared_data: Path) -> None:
    blood = load_recipe("blood")
    items = load_recipe_source(blood, blood.sources[0], shared_data, "valid")
    assert len(items) == 30
    assert set(np.unique(items[0].labels)) == {0, 1, 2}
    backgrounds = load_recipe_source(blood, blood.sources[1], shared_data, "train")
    assert len(backgrounds) == 33
    assert not any(item.labels.any() for item in backgrounds)
    assert load_recipe_source(blood, blood.sources[1], shared_data, "valid") == []
