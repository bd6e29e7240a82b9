"""Each seed's printed configuration trains, evaluates and infers; its bundle says the same.

The files are as the documents print them. Only the work is cut down, by ``--set``: one epoch of two
steps, narrow layers, and inputs of the smallest size that the network's depth allows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

keras = pytest.importorskip("keras", reason="needs the [train] extra")
pytest.importorskip("onnx", reason="needs the [export] extra")
tensorflow = pytest.importorskip("tensorflow")

from cellseg.cli import app  # noqa: E402
from cellseg.runtime.bundles.bundle import Bundle  # noqa: E402
from cellseg.train.images.masks import read_image  # noqa: E402
from cellseg.train.images.pairs import IMAGE_SUFFIXES  # noqa: E402
from cellseg.train.images.stock import prepare_image  # noqa: E402
from cellseg.train.networks.predict import open_predictor  # noqa: E402
from cellseg.train.recipes.recipe import load_recipe, recipe_of_run  # noqa: E402
from tests.train.seed.printed import write_seed  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Even though the:UserWarning"),  # of running eagerly
]

# Seed: smallest input for its depth, and what its printed file asks for.
SEEDS = {
    "000": (64, ("unet", 16, 7, 7, 2, "bce_dice", (512, 512))),
    "001": (128, ("unet", 16, 8, 9, 3, "bce_dice", (512, 512))),
    "002": (32, ("unet", 16, 6, 3, 1, "bce", (256, 256))),
    "003": (16, ("flex-unet", 32, 5, 3, 1, "categorical_crossentropy", (224, 224))),
    "004": (128, ("unet", 16, 8, 5, 1, "bce_dice", (512, 512))),
}


def run(*words: Any) -> str:
    answer = CliRunner().invoke(app, [str(word) for word in words])
    assert answer.exit_code == 0, answer.output
    return str(answer.stdout)


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    """Two steps take less time than tracing a deep network's graph."""
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)


@pytest.fixture(scope="module", params=SEEDS)
def seed(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def recipe(seed: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a seed's folders and train it as its document says; the recipe's file."""
    path = write_seed(seed, tmp_path_factory.mktemp(f"seed{seed}"))
    side = SEEDS[seed][0]
    short = {
        "fit.epochs": 1,
        "fit.steps_per_epoch": 2,
        "fit.batch": 1,
        "fit.valid_images": 1,
        "model.base_filters": 1,
        "input.size_px": f"[{side}, {side}]",
        "watch.count": 1,
    }
    run("train", path, *(f"--set={key}={value}" for key, value in short.items()))
    return path


@pytest.fixture(scope="module")
def bundle(recipe: Path) -> Bundle:
    """Export the run."""
    path = recipe.parent / "model.cellseg"
    run("export", recipe.parent / "models", "-o", path, "--precision", "fp32")
    return Bundle.open(path)


def test_the_file_asks_for_the_seeds_network(seed: str, recipe: Path) -> None:
    asked = load_recipe(recipe)
    model = asked.model.model_dump()
    found = (
        asked.family, model["base_filters"], model["levels"], model["base_kernel"],
        model["dilation"], asked.loss.name, asked.input.size_px,
    )  # fmt: skip
    assert found == SEEDS[seed][1]


def test_the_run_lies_beside_its_recipe(recipe: Path) -> None:
    names = {path.name for path in (recipe.parent / "models").iterdir()}
    assert {"best.keras", "metrics.csv", "metrics.png", "contact.jpg", "model.json"} <= names


def test_it_evaluates(seed: str, recipe: Path) -> None:
    ways = ["plain", "tiled"] if seed == "004" else ["plain"]
    run("evaluate", recipe, *["--tiled"][: len(ways) - 1])
    summary = json.loads((recipe.parent / "models/evaluation-test/summary.json").read_text())
    assert [summary[way]["images"] for way in ways] == [2] * len(ways)


def test_it_infers(seed: str, recipe: Path) -> None:
    folders = [Path(line) for line in run("infer", recipe).split()]
    assert len(folders) == (2 if seed == "004" else 1)
    for folder in folders:
        found = sorted(folder.glob("*.png"))
        sizes = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape for path in found]
        assert sizes == [read_image(path).shape[:2] for path in images_of(seed, recipe)]


def images_of(seed: str, recipe: Path) -> list[Path]:
    """List the images that a seed infers."""
    places = {"002": "mini_test", "003": "test/images"}
    folder = recipe.parent / places.get(seed, "mini_test/images")
    return sorted(path for path in folder.iterdir() if path.suffix in IMAGE_SUFFIXES)


def test_its_bundle_gives_what_evaluation_gave(seed: str, recipe: Path, bundle: Bundle) -> None:
    models = recipe.parent / "models"
    trained = recipe_of_run(models, load_recipe(recipe))
    network = open_predictor(models, trained)
    bundled = open_predictor(bundle.path, trained, engine="onnxruntime", precision="fp32")
    image = read_image(images_of(seed, recipe)[0])
    np.testing.assert_allclose(bundled.plain(image), network.plain(image), atol=1e-4)
    own_scale = network.prepared(prepare_image(image, trained.normalize))
    np.testing.assert_allclose(bundled.tiled(image), own_scale, atol=1e-4)


def test_inference_runs_the_bundle_at_the_scale_of_training(
    seed: str, recipe: Path, bundle: Bundle, tmp_path: Path
) -> None:
    side = SEEDS[seed][0]
    assert bundle.manifest.input.fit_px == (side, side)
    path = images_of(seed, recipe)[0]
    run("infer", path, "--model", bundle.path, "-o", tmp_path, "--engine", "onnxruntime",
        "--precision", "fp32", "--write", "mask")  # fmt: skip
    plan = json.loads((tmp_path / path.stem / "run.json").read_text())["plan"]
    assert max(plan["height_px"], plan["width_px"]) == side
    assert plan["tiles_total"] == 1
