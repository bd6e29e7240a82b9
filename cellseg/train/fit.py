"""The training run: one folder that can be stopped, resumed and exported.

The folder holds::

    recipe.json     the resolved recipe              model.json   what the bundle will say
    best.keras      best validation, averaged weights last.keras   where a resume goes on
    metrics.csv     one row an epoch                 metrics.png  its picture
    contact.jpg     validation images, truth and prediction side by side

A file named ``stop`` in the folder ends the run after the epoch; a run never deletes a folder.
"""

from __future__ import annotations

import csv
import json
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cellseg.errors import DataError, RecipeError
from cellseg.train.data import CropSequence, LabelledImage, load_source, pack_target, padded_to
from cellseg.train.losses import InteriorBorderLoss
from cellseg.train.models import build_unet, kflop_per_pixel, network_stride
from cellseg.train.pictures import plot_metrics, save_contact_sheet

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.recipe import FitRecipe, Recipe

log = logging.getLogger("cellseg.train")

VALIDATION_SIDE_PX = 512


@dataclass
class RunState:
    """What a resume needs besides the model: epoch, best loss, averaged weights."""

    epoch: int = 0
    best_loss: float = float("inf")
    best_epoch: int = -1
    mean_weights: list[NDArray[np.float32]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write to ``state.npz``, replacing it at once."""
        facts = np.array([self.epoch, self.best_loss, self.best_epoch])
        arrays: dict[str, Any] = {f"w{i}": value for i, value in enumerate(self.mean_weights)}
        temporary = folder / "state.tmp.npz"
        np.savez(temporary, **arrays, facts=facts)
        temporary.replace(folder / "state.npz")

    @classmethod
    def load(cls, folder: Path) -> RunState:
        """Read back what `save` wrote."""
        with np.load(folder / "state.npz") as file:
            epoch, best_loss, best_epoch = file["facts"]
            weights = [file[f"w{i}"] for i in range(len(file.files) - 1)]
        return cls(int(epoch), float(best_loss), int(best_epoch), weights)


class MeanWeights(keras.callbacks.Callback):
    """Running mean of all weights: ``mean = d * mean + (1 - d) * weights`` after each step.

    The decay d grows from 0 to ``decay`` over the first steps, so that the start is forgotten.
    """

    def __init__(self, decay: float, state: RunState, steps_before: int) -> None:
        super().__init__()
        self._decay, self._state, self._step = decay, state, steps_before

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Take the weights of one more step into the mean."""
        self._step += 1
        weights = self.model.get_weights()
        if not self._state.mean_weights:
            self._state.mean_weights = [np.array(value) for value in weights]
        decay = np.float32(min(self._decay, (1 + self._step) / (10 + self._step)))
        for mean, value in zip(self._state.mean_weights, weights, strict=True):
            mean += (1 - decay) * (value - mean)


class EpochEnd(keras.callbacks.Callback):
    """Validate the averaged weights, keep the best, write metrics and state, stop when due."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        state: RunState,
        validation: list[LabelledImage],
    ) -> None:
        super().__init__()
        self._recipe, self._folder, self._state = recipe, folder, state
        self._validation = validation
        self._loss = InteriorBorderLoss()
        self._started = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Validate, save, and decide whether to go on."""
        loss = float((logs or {})["loss"])
        if not np.isfinite(loss):
            log.error(
                "loss is %s in epoch %d; %s keeps the last good weights", loss, epoch, self._folder
            )
            self.model.stop_training = True
            return
        seconds = time.perf_counter() - self._started
        row: dict[str, Any] = {"epoch": epoch + 1, "loss": round(loss, 5)}
        row |= self._validate()
        row["seconds"] = round(seconds, 1)
        _append_row(self._folder / "metrics.csv", row)
        plot_metrics(self._folder / "metrics.csv", self._folder / "metrics.png")
        self._state.epoch = epoch + 1
        self.model.save(self._folder / "last.keras")
        self._state.save(self._folder)
        log.info(" ".join(f"{key}={value}" for key, value in row.items()))
        self._stop_if_due(epoch)

    def _validate(self) -> dict[str, float]:
        """Loss and foreground Dice with the averaged weights; keeps the best model."""
        raw = self.model.get_weights()
        self.model.set_weights(self._state.mean_weights)
        try:
            row = evaluate_crops(self.model, self._validation, self._loss, self._recipe)
            if row["val_loss"] < self._state.best_loss:
                self._state.best_loss, self._state.best_epoch = row["val_loss"], self._state.epoch
                temporary = self._folder / "best.tmp.keras"
                self.model.save(temporary)
                temporary.replace(self._folder / "best.keras")
        finally:
            self.model.set_weights(raw)
        return row

    def _stop_if_due(self, epoch: int) -> None:
        stop_file = self._folder / "stop"
        if stop_file.exists():
            log.info("%s found: stopped", stop_file)
            self.model.stop_training = True
        elif epoch - self._state.best_epoch >= self._recipe.fit.patience:
            log.info("no better validation for %d epochs: stopped", self._recipe.fit.patience)
            self.model.stop_training = True


def evaluate_crops(
    model: keras.Model, images: list[LabelledImage], loss: InteriorBorderLoss, recipe: Recipe
) -> dict[str, float]:
    """Loss and Dice by source, and the loss of all, weighted as training weights the sources."""
    losses: dict[str, list[float]] = {}
    dices: dict[str, list[float]] = {}
    for item in images:
        predicted = predict(model, item.image)[None]
        target = pack_target(item.labels, recipe.target)[None]
        losses.setdefault(item.source, []).append(float(loss(target, predicted)))
        dices.setdefault(item.source, []).append(
            foreground_dice(predicted[0, ..., 0] < 0.5, item.labels > 0)
        )
    weight_of = {source.name: source.weight for source in recipe.sources}
    total = np.average(
        [np.mean(v) for v in losses.values()], weights=[weight_of[k] for k in losses]
    )
    row = {"val_loss": round(float(total), 5)}
    return row | {f"val_dice_{name}": round(float(np.mean(v)), 4) for name, v in dices.items()}


def predict(model: keras.Model, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (H, W, C) of one RGB image (H, W, 3), sides multiples of the stride."""
    # Called, not `predict_on_batch`, which compiles anew for every image size.
    batch = model(image[None].astype(np.float32), training=False)
    return np.asarray(keras.ops.convert_to_numpy(batch)[0])


def foreground_dice(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """2 |A and B| / (|A| + |B|); 1 where both are empty."""
    both = int(predicted.sum()) + int(truth.sum())
    return 1.0 if both == 0 else 2.0 * int((predicted & truth).sum()) / both


def train(recipe: Recipe, data_root: Path, folder: Path, resume: bool = False) -> Path:
    """Train a model and return the run's folder.

    Parameters
    ----------
    recipe : Recipe
        What to train, on what.
    data_root : Path
        Folder the sources' paths are relative to.
    folder : Path
        The run's folder; made if missing.
    resume : bool
        Go on from ``last.keras`` in ``folder``.

    Raises
    ------
    RecipeError
        If ``folder`` holds a run and ``resume`` is false, or another recipe's run.
    DataError
        If a source has no training images.
    """
    _prepare_folder(recipe, folder, resume)
    keras.utils.set_random_seed(recipe.fit.seed)
    groups = [load_source(s, data_root, "train", recipe.normalize) for s in recipe.sources]
    empty = [s.name for s, group in zip(recipe.sources, groups, strict=True) if not group]
    if empty:
        raise DataError(
            f"every source needs training images. Received none for {', '.join(empty)}."
        )
    validation = load_validation(recipe, data_root)
    model, state = _model_and_state(recipe, folder, resume)
    first_step = state.epoch * recipe.fit.steps_per_epoch
    crops = CropSequence(groups, recipe, first_step, workers=1, max_queue_size=6)
    facts = (
        model.count_params(),
        kflop_per_pixel(model),
        [len(g) for g in groups],
        len(validation),
    )
    log.info("parameters=%d kflop_per_px=%.1f images=%s validation=%d", *facts)
    write_model_facts(recipe, model, folder)
    model.fit(
        crops,
        steps_per_epoch=recipe.fit.steps_per_epoch,
        epochs=recipe.fit.epochs,
        initial_epoch=state.epoch,
        shuffle=False,  # or Keras reorders the steps, and a resumed run differs
        verbose=0,
        callbacks=[
            MeanWeights(recipe.fit.ema, state, first_step),
            EpochEnd(recipe, folder, state, validation),
        ],
    )
    best = keras.saving.load_model(folder / "best.keras", compile=False)
    predicted = [predict(best, item.image) for item in validation]
    save_contact_sheet(validation, predicted, folder / "contact.jpg")
    return folder


def load_validation(recipe: Recipe, data_root: Path) -> list[LabelledImage]:
    """Read the validation images, cut to at most 512 px a side and padded to the stride."""
    stride, side = network_stride(recipe.model), VALIDATION_SIDE_PX
    found = []
    for source in recipe.sources:
        for item in load_source(source, data_root, "valid", recipe.normalize):
            image = padded_to(item.image[:side, :side], stride)
            labels = padded_to(item.labels[:side, :side], stride)
            found.append(LabelledImage(item.source, item.stem, image, labels))
    return found


def cosine_schedule(fit: FitRecipe) -> keras.optimizers.schedules.CosineDecay:
    """Linear warm-up, then half a cosine down to a hundredth at the last epoch."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=fit.learning_rate / 50,
        warmup_target=fit.learning_rate,
        warmup_steps=fit.warmup_steps,
        decay_steps=max(1, fit.epochs * fit.steps_per_epoch - fit.warmup_steps),
        alpha=0.01,
    )


def compile_model(recipe: Recipe, model: keras.Model) -> None:
    """Give the model its optimizer, schedule and loss."""
    fit = recipe.fit
    optimizer = keras.optimizers.AdamW(
        cosine_schedule(fit), weight_decay=fit.weight_decay, global_clipnorm=fit.clipnorm
    )
    model.compile(optimizer, InteriorBorderLoss())


def write_model_facts(recipe: Recipe, model: keras.Model, folder: Path) -> None:
    """Write ``model.json``: what the exporter puts into the bundle's manifest."""
    bundle = recipe.bundle
    channels: list[tuple[str, int | None]] = [("background", 0), ("interior", 1), ("border", 1)]
    channels += [("distance", None)] if recipe.target.distance else []
    facts = {
        "name": recipe.name,
        "version": bundle.version,
        "description": bundle.description,
        "license": bundle.license,
        "classes": [
            {"name": "background", "color": [0, 0, 0]},
            {"name": bundle.class_name, "color": list(bundle.class_color)},
        ],
        "channels": [{"name": name, "class_index": index} for name, index in channels],
        "head": {
            "kind": "softmax",
            "instances": {
                "kind": "interior-border",
                "interior_channel": 1,
                "seed_threshold": bundle.seed_threshold,
                "seed_depth": bundle.seed_depth,
                "seed_blur_px": bundle.seed_blur_px,
                "min_seed_px": bundle.min_seed_px,
                "min_area_px": bundle.min_area_px,
            },
        },
        "threshold": bundle.threshold,
        "mpp": bundle.mpp,
        "stride": network_stride(recipe.model),
        "input": {"normalize": recipe.normalize.model_dump()},
        "provenance": {
            "recipe": recipe.model_dump(mode="json"),
            "parameters": model.count_params(),
            "kflop_per_px": round(kflop_per_pixel(model), 2),
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        },
    }
    (folder / "model.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _prepare_folder(recipe: Recipe, folder: Path, resume: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path, resolved = folder / "recipe.json", recipe.model_dump(mode="json")
    if path.exists():
        if not resume:
            raise RecipeError(
                f"a run's folder is used once. Received: {folder} holds a run.",
                hint="add --resume to go on with it, or choose another folder.",
            )
        earlier = json.loads(path.read_text(encoding="utf-8"))
        # A run may be made shorter or longer: its schedule then ends elsewhere.
        earlier["fit"] = earlier.get("fit", {}) | {"epochs": recipe.fit.epochs}
        if earlier != json.loads(json.dumps(resolved)):
            raise RecipeError(
                "a run resumes with the recipe it began with, but for fit.epochs. "
                f"Received: another one for {folder}.",
                hint=f"the run's own recipe is in {path}; choose another folder for a new one.",
            )
    path.write_text(json.dumps(resolved, indent=2) + "\n", encoding="utf-8")


def _model_and_state(recipe: Recipe, folder: Path, resume: bool) -> tuple[keras.Model, RunState]:
    if resume and (folder / "state.npz").exists():
        log.info("going on from %s", folder / "last.keras")
        model = keras.saving.load_model(folder / "last.keras")
        model.optimizer.learning_rate = cosine_schedule(recipe.fit)  # its end may have been moved
        return model, RunState.load(folder)
    model = build_unet(recipe.model, recipe.target.distance)
    if recipe.fit.init is not None:
        start = keras.saving.load_model(recipe.fit.init, compile=False)
        model.set_weights(start.get_weights())
    compile_model(recipe, model)
    return model, RunState()


def _append_row(path: Path, row: dict[str, Any]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)
