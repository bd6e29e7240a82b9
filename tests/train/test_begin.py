"""A run that begins with what another one learned: a bundle, a run's folder, a Keras file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

keras = pytest.importorskip("keras", reason="needs the [train] extra")
pytest.importorskip("onnx", reason="needs the [export] extra")

from cellseg.cli import app  # noqa: E402
from tests.bundles import make_bundle  # noqa: E402
from tests.train.loop.test_fit import write_discs  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RECIPE = """name = "discs"
[model]
base_filters = 4
levels = 2
head_filters = 4
[[sources]]
name = "discs"
path = "discs"
[fit]
crop_px = 32
batch = 2
steps_per_epoch = 2
epochs = 1
warmup_steps = 2
"""


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with data, a recipe, a run and its bundle."""
    root = tmp_path_factory.mktemp("lab")
    write_discs(root / "discs" / "train", 4)
    write_discs(root / "discs" / "valid", 2)
    (root / "discs.toml").write_text(RECIPE)
    trained = run("train", root / "discs.toml", "-o", root / "run")
    assert trained.exit_code == 0, trained.output
    made = run("export", root / "run", "-o", root / "discs.cellseg", "--precision", "fp32",
               "--representative", root / "discs" / "train" / "images")  # fmt: skip
    assert made.exit_code == 0, made.output
    return root


def train_on(lab: Path, begin: str | Path, out: Path, *more: str | Path) -> Any:
    # At this rate nothing is learned, so what a run ends with is what it began with.
    slow = ("--set", "fit.learning_rate=1e-12", "--set", "fit.weight_decay=0")
    return run("train", lab / "discs.toml", "--from", begin, "-o", out, *slow, *more)


def kernels(file: Path) -> list[Any]:
    model = keras.saving.load_model(file, compile=False)
    return [layer.get_weights()[0] for layer in model.layers if "classes" in layer.name]


@pytest.mark.parametrize("begin", ["discs.cellseg", "run", "run/best.keras"])
def test_a_run_begins_with_the_weights_it_is_given(lab: Path, tmp_path: Path, begin: str) -> None:
    answer = train_on(lab, lab / begin, tmp_path / "on")
    assert answer.exit_code == 0, answer.output
    ours, given = kernels(tmp_path / "on" / "best.keras"), kernels(lab / "run" / "best.keras")
    np.testing.assert_allclose(ours, given, atol=1e-6)
    assert (tmp_path / "on" / "begin.keras").exists() == (begin == "discs.cellseg")


def test_a_run_from_a_bundle_resumes(lab: Path, tmp_path: Path) -> None:
    first = train_on(lab, lab / "discs.cellseg", tmp_path / "on")
    assert first.exit_code == 0, first.output
    again = train_on(lab, lab / "discs.cellseg", tmp_path / "on", "--resume",
                     "--set", "fit.epochs=2")  # fmt: skip
    assert again.exit_code == 0, again.output
    assert len((tmp_path / "on" / "metrics.csv").read_text().splitlines()) == 3


def test_a_folder_with_a_run_is_refused_before_anything_is_written(lab: Path) -> None:
    answer = train_on(lab, lab / "discs.cellseg", lab / "run")
    assert answer.exit_code == 1
    assert "a run's folder is used once" in answer.stderr
    assert not (lab / "run" / "begin.keras").exists()


def test_a_bundle_that_was_not_trained_here_is_refused(lab: Path, tmp_path: Path) -> None:
    foreign = make_bundle(tmp_path / "foreign.cellseg")
    answer = train_on(lab, foreign.path, tmp_path / "on")
    assert answer.exit_code == 1
    assert "names none" in answer.stderr
    assert "hint: " in answer.stderr


def test_a_name_that_is_no_model_is_told(lab: Path, tmp_path: Path) -> None:
    answer = train_on(lab, "nucleus", tmp_path / "on")
    assert answer.exit_code == 1
    assert "nucleus" in answer.stderr
    assert not (tmp_path / "on").exists()
