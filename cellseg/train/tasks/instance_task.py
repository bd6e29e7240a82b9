"""Training on numbered cells: interior and border, told apart where cells touch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cellseg.errors import DataError
from cellseg.train.images.cell_crops import (
    CropSequence,
    LabelledImage,
    load_source,
    pack_target,
    padded_to,
)
from cellseg.train.images.pictures import save_contact_sheet
from cellseg.train.losses import InteriorBorderLoss

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.sections import Recipe

__all__ = ["InstanceTask", "foreground_dice", "predict"]

VALIDATION_SIDE_PX = 512


class InstanceTask:
    """See `cellseg.train.tasks.task.Task`."""

    def __init__(self, recipe: Recipe, root: Path) -> None:
        self.recipe = recipe
        self._groups = [load_source(s, root, "train", recipe.normalize) for s in recipe.sources]
        pairs = zip(recipe.sources, self._groups, strict=True)
        if empty := [source.name for source, group in pairs if not group]:
            raise DataError(
                f"every source needs training images. Received none for {', '.join(empty)}."
            )
        blank = [
            source.name
            for source, group in zip(recipe.sources, self._groups, strict=True)
            if not any(item.labels.any() for item in group)
        ]
        if blank:
            raise DataError(
                "every source needs labelled objects to learn from. "
                f"Received none in the training images of {', '.join(blank)}.",
                hint="a label map holds a number for each object, and 0 between them.",
            )
        self._validation = load_validation(recipe, root)
        if not self._validation:
            raise DataError(
                "a run needs images to train and to validate on. Received: none for valid.",
                hint="put some of them, with their labels, into valid/images and valid/labels of a "
                "source; cellseg-cli data split does so.",
            )
        counts = [len(group) for group in self._groups]
        self.summary = f"images={counts} validation={len(self._validation)}"

    def crops(self, first_step: int) -> CropSequence:
        """Crops of every step from ``first_step`` on."""
        fit = self.recipe.fit
        options = {"workers": fit.workers, "max_queue_size": fit.prefetch}
        return CropSequence(self._groups, self.recipe, first_step, **options)

    def loss(self) -> keras.losses.Loss:
        """Cross-entropy of interior and border, and Dice of the foreground."""
        return InteriorBorderLoss()

    def validate(self, model: keras.Model) -> dict[str, float]:
        """Loss and Dice by source, and the loss of all, by the sources' weights in training."""
        loss, recipe = self.loss(), self.recipe
        losses: dict[str, list[float]] = {}
        dices: dict[str, list[float]] = {}
        for item in self._validation:
            predicted = predict(model, item.image)[None]
            target = pack_target(item.labels, recipe.target)[None]
            losses.setdefault(item.source, []).append(float(loss(target, predicted)))
            dices.setdefault(item.source, []).append(
                foreground_dice(predicted[0, ..., 0] < 0.5, item.labels > 0)
            )
        weight_of = {source.name: source.weight for source in recipe.sources}
        weights = [weight_of[name] for name in losses]
        total = np.average([np.mean(values) for values in losses.values()], weights=weights)
        row = {"val_loss": round(float(total), 5)}
        return row | {f"val_dice_{name}": round(float(np.mean(v)), 4) for name, v in dices.items()}

    def facts(self) -> dict[str, Any]:
        """Classes, channels, head and threshold, as ``model.json`` says them."""
        bundle = self.recipe.bundle
        channels: list[tuple[str, int | None]] = [("background", 0), ("interior", 1), ("border", 1)]
        channels += [("distance", None)] if self.recipe.target.distance else []
        return {
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
                    "sure_probability": bundle.sure_probability,
                    "min_sure": bundle.min_sure,
                    "neck_depth": bundle.neck_depth,
                    "least_diameter_px": bundle.least_diameter_px,
                },
            },
            "threshold": bundle.threshold,
        }

    def show(self, model: keras.Model, picture: Path) -> None:
        """Write validation images, their truth and what the model says, side by side."""
        predicted = [predict(model, item.image) for item in self._validation]
        save_contact_sheet(self._validation, predicted, self.recipe.target, picture)

    def watched(self) -> list[NDArray[np.uint8]]:
        """Return the validation images."""
        return [item.image for item in self._validation]


def load_validation(recipe: Recipe, root: Path) -> list[LabelledImage]:
    """Read the validation images, cut to at most 512 px a side and padded to the stride."""
    stride, side = recipe.model.stride, VALIDATION_SIDE_PX
    found = []
    for source in recipe.sources:
        for item in load_source(source, root, "valid", recipe.normalize):
            image = padded_to(item.image[:side, :side], stride)
            labels = padded_to(item.labels[:side, :side], stride)
            found.append(LabelledImage(item.source, item.stem, image, labels))
    return found


def predict(model: keras.Model, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (H, W, C) of one RGB image (H, W, 3), sides multiples of the stride."""
    # Called, not `predict_on_batch`, which compiles anew for every image size.
    batch = model(image[None].astype(np.float32), training=False)
    return np.asarray(keras.ops.convert_to_numpy(batch)[0])


def foreground_dice(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """2 |A and B| / (|A| + |B|); 1 where both are empty.

    Parameters
    ----------
    predicted, truth : bool, shape (H, W)
        Foreground.
    """
    both = int(predicted.sum()) + int(truth.sum())
    return 1.0 if both == 0 else 2.0 * int((predicted & truth).sum()) / both
