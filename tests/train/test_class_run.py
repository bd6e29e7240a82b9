"""A seed's project end to end: trained, resumed, scored, applied, and its mistakes named."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

keras = pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.cli import app  # noqa: E402
from cellseg.errors import DataError, TrainingError  # noqa: E402
from cellseg.train.loop import callbacks  # noqa: E402
from cellseg.train.loop.fit import train  # noqa: E402
from cellseg.train.recipes.recipe import load_recipe  # noqa: E402
from tests.train.project import write_discs, write_project  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a project; its configuration file."""
    config = write_project(tmp_path_factory.mktemp("seed"))
    answer = CliRunner().invoke(app, ["train", str(config)])
    assert answer.exit_code == 0, answer.output
    return config


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_a_seeds_file_trains_as_it_is(project: Path) -> None:
    models = project.parent / "models"
    names = {path.name for path in models.iterdir()}
    assert {"best.keras", "last.keras", "metrics.csv", "metrics.png", "contact.jpg"} <= names
    assert {"epochs-plain.png", "epochs-tiled.png", "model.json", "recipe.json"} <= names
    rows = list(csv.DictReader((models / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"loss", "val_loss", "val_dice_foreground", "learning_rate"} <= set(rows[0])


def test_the_sheet_of_epochs_grows_by_a_row_each(project: Path) -> None:
    sheet = cv2.imread(str(project.parent / "models" / "epochs-plain.png"))
    assert sheet.shape[0] == 3 * 196  # the images, epoch 1, epoch 2


def test_a_seeds_file_evaluates_as_it_is_plain_and_tiled(project: Path) -> None:
    answer = run("evaluate", str(project), "--tiled", "--cam")
    assert answer.exit_code == 0, answer.output
    assert "| plain | foreground | 2 |" in answer.stdout
    folder = project.parent / "models" / "evaluation-test"
    scores = json.loads((folder / "summary.json").read_text())["plain"]
    pooled, mean = scores["mean_dice_pooled"], scores["mean_dice"]
    assert f"mean foreground Dice {pooled:.3f} over all pixels" in answer.stdout
    assert f"{mean:.3f} as the mean of images" in answer.stdout
    names = {path.name for path in folder.iterdir()}
    expected = {"per-image.csv", "summary.json", "images.jpg", "confusion.png", "calibration.png"}
    assert expected | {"thresholds.csv", "thresholds.png", "per-image-tiled.csv", "cam"} <= names
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary) >= {"plain", "tiled", "model", "split"}
    assert np.array(summary["plain"]["confusion"]).sum() == 2 * 40 * 56
    assert len(list((folder / "cam").iterdir())) == 2


def test_a_backend_without_class_activation_says_so_before_it_scores(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellseg.train.scores.cam.keras.backend.backend", lambda: "jax")
    answer = run("evaluate", str(project), "--cam", "-o", str(tmp_path / "out"))
    assert answer.exit_code == 1
    assert "need TensorFlow or torch" in answer.output
    assert "hint: KERAS_BACKEND=tensorflow" in answer.output
    assert not (tmp_path / "out").exists()


def test_a_seeds_file_infers_as_it_is(project: Path) -> None:
    answer = run("infer", str(project), "--json")
    assert answer.exit_code == 0, answer.output
    folders = [Path(folder) for folder in json.loads(answer.stdout)["folders"]]
    assert {project.parent / "mini_test_output", project.parent / "tiled_mini_test_output"} <= {
        *folders
    }
    for folder in ("mini_test_output", "tiled_mini_test_output"):
        mask = cv2.imread(str(project.parent / folder / "0.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (70, 90)
        assert set(np.unique(mask)) <= {0, 255}
    assert (project.parent / "mini_test_output_merged" / "1.png").is_file()


def test_the_preview_shows_pairs(project: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    answer = run("data", "preview", str(project), "-o", str(sheet), "--count", "4")
    assert answer.exit_code == 0, answer.output
    picture = cv2.imread(str(sheet))
    green = (picture == (255, 255, 255)).all(-1)
    assert picture.shape[1] > 1500
    assert not green.all()


def test_a_resumed_run_has_the_losses_it_would_have_had(project: Path, tmp_path: Path) -> None:
    recipe = load_recipe(project)
    whole = project.parent / "models"
    (tmp_path / "STOP").touch()
    train(recipe, project.parent, tmp_path)
    (tmp_path / "STOP").unlink()
    train(recipe, project.parent, tmp_path, resume=True)
    one, two = (
        [float(row["loss"]) for row in csv.DictReader((f / "metrics.csv").read_text().splitlines())]
        for f in (whole, tmp_path)
    )
    np.testing.assert_allclose(one, two, atol=2e-5)


def test_a_loss_that_is_no_number_stops_with_the_weights_before_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = callbacks.LossGuard.on_train_batch_end

    def poisoned(self: Any, batch: int, logs: Any = None) -> None:
        original(self, batch, {"loss": float("nan")} if batch == 1 else logs)

    monkeypatch.setattr(callbacks.LossGuard, "on_train_batch_end", poisoned)
    with pytest.raises(TrainingError, match=r"loss=nan in epoch 1, batch 2 \(\d\.jpg, \d\.jpg\)"):
        train(load_recipe(project), project.parent, tmp_path)
    kept = keras.saving.load_model(tmp_path / "last-good.keras", compile=False)
    assert all(np.isfinite(value).all() for value in kept.get_weights())


def copied(project: Path, tmp_path: Path) -> Path:
    shutil.copytree(project.parent.parent, tmp_path / "copy")
    return tmp_path / "copy" / "project" / project.name


def spoil_mask(folder: Path) -> None:
    cv2.imwrite(str(folder / "masks" / "3.png"), np.zeros((9, 9), np.uint8))


def drop_mask(folder: Path) -> None:
    (folder / "masks" / "3.png").unlink()


def spoil_image(folder: Path) -> None:
    (folder / "images" / "3.jpg").write_bytes(b"no image")


def blacken_masks(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        cv2.imwrite(str(path), np.zeros((40, 56), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (spoil_mask, r"its image's size.*image=56x40, mask=9x9.*3\.png"),
        (drop_mask, r"every image needs a mask.*3\.jpg \(1 of 5"),
        (spoil_image, r"must be readable.*3\.jpg"),
        (blacken_masks, "every class must have pixels.*none of foreground in 5 masks"),
    ],
)
def test_bad_data_is_named_before_any_work(
    project: Path, tmp_path: Path, spoil: Any, match: str
) -> None:
    config = copied(project, tmp_path)
    spoil(config.parent.parent / "data" / "train")
    with pytest.raises(DataError, match=match):
        train(load_recipe(config), config.parent, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_black_mask_among_others_is_only_said(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from cellseg.train.tasks.task import open_task

    config = copied(project, tmp_path)
    black = config.parent.parent / "data" / "train" / "masks" / "2.png"
    cv2.imwrite(str(black), np.zeros((40, 56), np.uint8))
    open_task(load_recipe(config), config.parent)
    assert "1 of 5 training masks hold background only" in caplog.text


def test_data_may_name_the_data_set_itself(project: Path, tmp_path: Path) -> None:
    from cellseg.train.images.pairs import find_pairs

    write_discs(tmp_path / "train", 4, (40, 40))
    pairs = find_pairs(load_recipe(project), tmp_path, "train")
    assert [pair.image.parent for pair in pairs] == [tmp_path / "train" / "images"] * 3


def test_without_a_run_evaluate_says_what_to_do(tmp_path: Path) -> None:
    answer = run("evaluate", str(write_project(tmp_path)))
    assert answer.exit_code == 1
    assert "hint: train first" in answer.output
