"""Runs on masks: classes they may lack, data named directly, what is kept, the small recipes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.data.smear.classes import CLASSES  # noqa: E402
from cellseg.errors import DataError, RecipeError  # noqa: E402
from cellseg.train.images.pairs import find_pairs  # noqa: E402
from cellseg.train.loop.callbacks import EpochEnd  # noqa: E402
from cellseg.train.loop.fit import check_folder  # noqa: E402
from cellseg.train.loop.run_state import RunState  # noqa: E402
from cellseg.train.networks.model import build_network, load_network, summarize_network  # noqa: E402
from cellseg.train.objectives import make_loss  # noqa: E402
from cellseg.train.recipes.recipe import load_recipe  # noqa: E402
from cellseg.train.sections import Recipe  # noqa: E402
from cellseg.train.tasks.class_task import ClassTask  # noqa: E402


def write_squares(folder: Path, names: str, value: int = 1) -> None:
    """Write dark squares of one class on bright ground."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for place, name in enumerate(names):
        mask = np.zeros((40, 40), np.uint8)
        mask[8 + place : 24 + place, 10:26] = value
        image = np.where(mask[..., None] > 0, (90, 60, 120), (220, 215, 225)).astype(np.uint8)
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image)


def recipe(optional: bool, **more: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "squares",
            "model": {"base_filters": 4, "levels": 2},
            "sources": [{"name": "squares", "path": "squares"}],
            "classes": [
                {"name": "background", "color": [0, 0, 0]},
                {"name": "square", "color": [255, 0, 0]},
                {"name": "rare", "color": [0, 255, 0], "optional": optional},
            ],
            "input": {"size_px": [32, 32], "fit": "native"},
            "normalize": {"kind": "none"},
            "target": {"kind": "classes"},
            "loss": {"name": "crossentropy_dice", "options": {"skip_background": True}},
        }
        | more
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split in ("train", "valid"):
        write_squares(tmp_path / "squares" / split, "abc")
    return tmp_path


def test_a_class_without_pixels_is_refused_unless_it_is_optional(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DataError, match="none of rare in 3 masks") as refused:
        ClassTask(recipe(optional=False), data)
    assert "optional = true" in str(refused.value.hint)
    task = ClassTask(recipe(optional=True), data)
    assert task.pixels.tolist()[2] == 0
    assert "no training mask shows rare" in caplog.text
    assert len(task.facts()["classes"]) == 3


def test_an_optional_class_is_pushed_to_stay_empty(data: Path) -> None:
    task = ClassTask(recipe(optional=True), data)
    truth = np.zeros((1, 8, 8, 1), np.float32)
    truth[:, :4] = 1.0
    empty = np.stack([0.9 - 0.8 * truth[..., 0], 0.1 + 0.8 * truth[..., 0], 0 * truth[..., 0]], -1)
    found = empty * 0.9 + np.array([0, 0, 0.1], np.float32)
    loss = task.loss()
    assert 0 < float(loss(truth, empty)) < float(loss(truth, found)) - 0.05


def test_data_may_be_the_only_sources_own_folder(data: Path) -> None:
    one = recipe(optional=True)
    inside = find_pairs(one, data / "squares", "train")
    assert [pair.image for pair in inside] == [p.image for p in find_pairs(one, data, "train")]
    two = recipe(
        optional=True,
        sources=[{"name": "squares", "path": "squares"}, {"name": "more", "path": "more"}],
    )
    with pytest.raises(DataError, match="folder must exist") as refused:
        find_pairs(two, data / "squares", "train")
    assert "the folder that holds squares" in str(refused.value.hint)


def test_smear_cells_has_the_classes_that_are_synthesized() -> None:
    classes = load_recipe("smear-cells").class_list
    assert [(item.name, item.color) for item in classes] == [(c.name, c.color) for c in CLASSES]
    assert [item.name for item in classes if item.optional] == [
        "platelet clump",
        "infected red cell",
    ]


def test_glomeruli_are_seen_at_a_quarter_of_their_images(shared_data: Path) -> None:
    shipped = load_recipe("glomeruli")
    counts = [len(find_pairs(shipped, shared_data, split)) for split in ("train", "valid", "test")]
    assert counts == [9, 1, 3]
    inside = find_pairs(shipped, shared_data / "kidney_glomeruli", "test")
    assert inside == find_pairs(shipped, shared_data, "test")
    width, _ = cv2.imread(str(inside[0].image)).shape[:2]
    assert shipped.input.fit == "whole"
    assert shipped.bundle.mpp == pytest.approx(0.5 * width / shipped.input.size_px[0], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "parameters", "outputs", "reach_px"),
    [("glomeruli", 3_512_777, 1, 508), ("smear-cells", 487_706, 10, 92)],
)
def test_the_nets_are_as_large_as_their_pages_say_and_tile_exactly(
    name: str, parameters: int, outputs: int, reach_px: int
) -> None:
    shipped = load_recipe(name)
    found = summarize_network(shipped)
    assert (found.parameters, build_network(shipped).output_shape[-1]) == (parameters, outputs)
    assert found.tiles_exactly
    assert found.receptive_field_px == reach_px


class Seen:
    """A task whose validation says what it is told; its watcher sees nothing."""

    def __init__(self, settings: Recipe, losses: list[float]) -> None:
        self.recipe, self._losses = settings, losses

    def validate(self, model: keras.Model) -> dict[str, float]:
        return {"val_loss": self._losses.pop(0), "val_dice_square": 0.5}

    def add(self, *what: Any) -> None:
        """Watch nothing."""


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("keep", "kept"), [("best", 1.0), ("last", 3.0)])
def test_weights_are_kept_of_the_best_epoch_or_of_the_last(
    keep: str, kept: float, tmp_path: Path
) -> None:
    task: Any = Seen(recipe(optional=True, fit={"keep": keep}), [0.5, 0.9, 0.7])
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    best = keras.models.clone_model(model)
    end = EpochEnd(task, tmp_path, RunState(), best, task)
    end.set_model(model)
    for epoch in range(3):
        model.set_weights([np.full((1, 1), epoch + 1.0)])
        end.on_epoch_begin(epoch)
        end.on_epoch_end(epoch, {"loss": 1.0})
    saved = load_network(tmp_path / "best.keras")
    assert saved.get_weights()[0].item() == kept


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_stopped_run_loads_in_a_process_that_never_made_its_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = make_loss("crossentropy_dice", class_weights=[1.0, 2.0])
    model = keras.Sequential([keras.layers.Input((4, 4, 3)), keras.layers.Conv2D(2, 1)])
    model.compile("sgd", loss)
    model.save(tmp_path / "last.keras")
    package = "cellseg.train.losses"
    monkeypatch.setattr(package, sys.modules[package])  # put back afterwards
    for module in [name for name in sys.modules if name.startswith(package)]:
        monkeypatch.delitem(sys.modules, module)
    objects = keras.saving.get_custom_objects()
    for name in [name for name, kind in objects.items() if kind.__module__.startswith(package)]:
        monkeypatch.delitem(objects, name)
    again = load_network(tmp_path / "last.keras", compiled=True).loss
    assert again.get_config() == loss.get_config()


def test_a_run_goes_on_although_its_recipe_is_older_than_a_key(tmp_path: Path) -> None:
    current = recipe(optional=False)
    older = current.model_dump(mode="json")
    del older["fit"]["keep"]
    (tmp_path / "recipe.json").write_text(json.dumps(older))
    check_folder(current, tmp_path, True)
    with pytest.raises(RecipeError, match="the recipe it began with"):
        check_folder(recipe(optional=True), tmp_path, True)
    with pytest.raises(RecipeError, match="used once"):
        check_folder(current, tmp_path, False)
