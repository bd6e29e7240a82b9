"""A run end to end on small images: it learns, resumes to the same weights, names mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.errors import DataError, RecipeError  # noqa: E402
from cellseg.train.data import CropSequence, load_source  # noqa: E402
from cellseg.train.fit import train  # noqa: E402
from cellseg.train.losses import InteriorBorderLoss  # noqa: E402
from cellseg.train.models import build_network, kflop_per_pixel  # noqa: E402
from cellseg.train.recipe import Recipe  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def write_discs(folder: Path, count: int, side: int = 64) -> None:
    """Bright discs on a dark ground, as images and labels."""
    rng = np.random.default_rng(len(folder.parts))
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    y, x = np.mgrid[:side, :side]
    for index in range(count):
        labels = np.zeros((side, side), np.uint16)
        for label in range(1, 6):
            cy, cx = rng.integers(8, side - 8, 2)
            labels[np.hypot(y - cy, x - cx) < 6] = label
        image = np.where(labels > 0, 180, 40) + rng.integers(0, 20, labels.shape)
        cv2.imwrite(str(folder / "images" / f"{index}.png"), image.astype(np.uint8))
        cv2.imwrite(str(folder / "labels" / f"{index}.png"), labels)


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_discs(root / "discs" / "train", 6)
    write_discs(root / "discs" / "valid", 2)
    return root


def tiny(model: dict[str, Any] | None = None, **fit: Any) -> Recipe:
    values = {"crop_px": 32, "batch": 2, "steps_per_epoch": 4, "epochs": 2, "warmup_steps": 2}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "model": model or {"base_filters": 4, "levels": 2, "head_filters": 4},
            "sources": [{"name": "discs", "path": "discs"}],
            "fit": values | fit,
        }
    )


def test_a_run_writes_everything_a_bundle_needs(discs: Path, tmp_path: Path) -> None:
    train(tiny(), discs, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"best.keras", "recipe.json", "model.json", "metrics.csv", "metrics.png"} <= names
    assert "contact.jpg" in names
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert json.loads((tmp_path / "model.json").read_text())["stride"] == 4


def test_a_resumed_run_ends_at_the_same_weights(discs: Path, tmp_path: Path) -> None:
    recipe = tiny()
    whole = train(recipe, discs, tmp_path / "whole")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "STOP").touch()
    train(recipe, discs, tmp_path / "parts")
    (tmp_path / "parts" / "STOP").unlink()
    parts = train(recipe, discs, tmp_path / "parts", resume=True)
    one, two = (keras.saving.load_model(run / "last.keras") for run in (whole, parts))
    for left, right in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-5)


def test_a_run_can_be_made_longer_and_its_schedule_ends_there(discs: Path, tmp_path: Path) -> None:
    train(tiny(), discs, tmp_path)
    longer = tiny().model_copy(update={"fit": tiny().fit.model_copy(update={"epochs": 3})})
    train(longer, discs, tmp_path, resume=True)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    optimizer = keras.saving.load_model(tmp_path / "last.keras").optimizer
    assert float(optimizer.learning_rate) < longer.fit.learning_rate / 20


def test_a_used_folder_is_not_overwritten(discs: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(RecipeError, match="used once") as caught:
        train(tiny(), discs, tmp_path)
    assert "--resume" in str(caught.value.hint)
    with pytest.raises(RecipeError, match="the recipe it began with"):
        train(tiny(), discs, tmp_path, resume=True)


def test_a_label_map_of_another_size_is_named(tmp_path: Path) -> None:
    write_discs(tmp_path / "discs" / "train", 1)
    cv2.imwrite(str(tmp_path / "discs" / "train" / "labels" / "0.png"), np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match=r"its image's size.*0\.png"):
        load_source(tiny().sources[0], tmp_path, "train", tiny().normalize)


def test_a_missing_label_map_is_named(tmp_path: Path) -> None:
    write_discs(tmp_path / "discs" / "train", 1)
    (tmp_path / "discs" / "train" / "labels" / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png is missing"):
        load_source(tiny().sources[0], tmp_path, "train", tiny().normalize)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train/images"):
        load_source(tiny().sources[0], tmp_path, "train", tiny().normalize)


def test_crops_depend_on_seed_and_step_alone(discs: Path) -> None:
    recipe = tiny()
    images = [load_source(recipe.sources[0], discs, "train", recipe.normalize)]
    whole, resumed = CropSequence(images, recipe), CropSequence(images, recipe, first_step=4)
    np.testing.assert_array_equal(whole[5][0], resumed[1][0])
    assert not np.array_equal(whole[1][0], resumed[1][0])
    assert len(resumed) == len(whole) - 4


def test_loss_is_small_for_the_truth_and_grows_with_error() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, (2, 8, 8))
    truth = np.stack([classes, np.ones_like(classes)], -1).astype(np.float32)
    right = np.eye(3, dtype=np.float32)[classes]
    loss = InteriorBorderLoss()
    assert float(loss(truth, right)) < 1e-3
    assert float(loss(truth, np.full_like(right, 1 / 3))) > 0.5
    assert float(loss(truth, np.roll(right, 1, -1))) > 5


def test_network_cost_equals_a_hand_count() -> None:
    # stem 3x3x3x4 at 1/4, down0 2 convs at 1/4, head: 4x4 deconv at 1/4, 4x3 at 1
    model = build_network(tiny(model={"base_filters": 4, "levels": 1, "head_filters": 4}))
    expected = 2 * (27 * 4 / 4 + 2 * 9 * 16 / 4 + 4 * 4 * 4 / 4 + 4 * 3)
    assert kflop_per_pixel(model) == pytest.approx(expected / 1000)


@pytest.mark.parametrize(
    ("stem", "levels", "stride"), [(True, 4, 16), (False, 5, 16), (False, 4, 8)]
)
def test_stride_counts_the_stem(stem: bool, levels: int, stride: int) -> None:
    assert tiny(model={"stem": stem, "levels": levels}).model.stride == stride
