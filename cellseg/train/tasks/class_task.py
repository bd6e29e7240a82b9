"""Training on masks: the class of each pixel, two classes or more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.errors import DataError
from cellseg.train.images.class_crops import ClassCrops, validation_crops
from cellseg.train.images.class_names import check_class_names
from cellseg.train.images.masks import fit_mask_rule, read_image
from cellseg.train.images.pairs import check_sizes, find_pairs, image_files, masks_of
from cellseg.train.images.stock import Stock
from cellseg.train.networks.predict import as_classes, class_map
from cellseg.train.objectives import make_loss
from cellseg.train.tasks.instance_task import predict
from cellseg.train.tasks.pixel_metrics import confusion_matrix

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from cellseg.train.progress import Progress
    from cellseg.train.sections import Recipe

__all__ = ["ClassTask", "class_weights", "palette"]

log = logging.getLogger("cellseg.train")

_SHOWN = 6


class ClassTask:
    """See `cellseg.train.tasks.task.Task`."""

    def __init__(self, recipe: Recipe, root: Path, progress: Progress | None = None) -> None:
        self.recipe, self._root = recipe, root
        pairs = {split: find_pairs(recipe, root, split) for split in ("train", "valid")}
        for split, found in pairs.items():
            if not found:
                raise DataError(
                    f"a run needs images to train and to validate on. Received: none for {split}.",
                    hint="name a folder of them, or set sources.valid_part above 0, which needs "
                    "two images at least.",
                )
            check_sizes(found)
        self.rule = fit_mask_rule(recipe, masks_of(pairs["train"]))
        check_class_names(recipe, self.rule, [*pairs["train"], *pairs["valid"]])
        self.stock = Stock(pairs["train"], self.rule, recipe)
        self.validation = Stock(pairs["valid"], self.rule, recipe)
        self.pixels = _count_pixels(self.stock, progress)
        _read_all(self.validation, progress)
        self.summary = (
            f"images={len(self.stock)} validation={len(self.validation)} "
            f"mask_threshold={self.rule.threshold} pixels={self.pixels.tolist()}"
        )

    def crops(self, first_step: int) -> ClassCrops:
        """Crops of every step from ``first_step`` on."""
        fit = self.recipe.fit
        options = {"workers": fit.workers, "max_queue_size": fit.prefetch}
        return ClassCrops(self.stock, self.recipe, first_step, **options)

    def loss(self) -> keras.losses.Loss:
        """Make the recipe's loss, with class weights where it asks for them."""
        recipe = self.recipe.loss
        options: dict[str, Any] = dict(recipe.options)
        if recipe.class_weights != "none":
            options["class_weights"] = class_weights(recipe.class_weights, self.pixels)
        return make_loss(recipe.name, **options)

    def validate(self, model: keras.Model) -> dict[str, float]:
        """Mean loss of the images, and Dice of each class over the pixels of all."""
        loss, recipe = self.loss(), self.recipe
        losses, counts = [], np.zeros((len(recipe.class_list),) * 2, np.int64)
        for image, classes in validation_crops(self.validation, recipe, recipe.fit.valid_images):
            raw = predict(model, image)
            truth = classes[None, ..., None].astype(np.float32)
            losses.append(float(loss(truth, raw[None])))
            found = class_map(as_classes(raw, recipe), recipe.infer.threshold)
            counts += confusion_matrix(found, classes, len(counts))
        row = {"val_loss": round(float(np.mean(losses)), 5)}
        both = counts.sum(0) + counts.sum(1)
        for index, item in enumerate(recipe.class_list[1:], 1):
            dice = 2 * counts[index, index] / both[index] if both[index] else float("nan")
            row[f"val_dice_{item.name}"] = round(float(dice), 4)
        row["val_accuracy"] = round(float(np.trace(counts) / counts.sum()), 4)
        return row

    def facts(self) -> dict[str, Any]:
        """Classes, channels, head and threshold, as ``model.json`` says them."""
        classes = self.recipe.class_list
        listed = [{"name": item.name, "color": list(item.color)} for item in classes]
        is_binary = len(classes) == 2
        first = 1 if is_binary else 0
        return {
            "classes": listed,
            "channels": [
                {"name": item.name, "class_index": index}
                for index, item in enumerate(classes[first:], first)
            ],
            "head": {"kind": "sigmoid" if is_binary else "softmax"},
            "threshold": self.recipe.infer.threshold if is_binary else None,
        }

    def show(self, model: keras.Model, picture: Path) -> None:
        """Write validation images, their truth and what the model says, side by side."""
        colors, rows = palette(self.recipe), []
        for image, classes in validation_crops(self.validation, self.recipe, _SHOWN):
            found = as_classes(predict(model, image), self.recipe)
            decided = class_map(found, self.recipe.infer.threshold)
            parts = (image, colors[classes], colors[decided])
            rows.append(np.hstack([_thumb(part) for part in parts]))
        sheet = np.vstack(rows)[..., ::-1]
        cv2.imwrite(str(picture), sheet, [cv2.IMWRITE_JPEG_QUALITY, 90])

    def watched(self) -> list[NDArray[np.uint8]]:
        """Images of the watched folder, else validation images, as they were read."""
        watch = self.recipe.watch
        if watch.images is not None and (self._root / watch.images).is_dir():
            files = image_files(self._root / watch.images)
        else:
            files = [pair.image for pair in self.validation.pairs]
        return [read_image(path) for path in files[: watch.count]]


def class_weights(kind: str | tuple[float, ...], pixels: NDArray[np.int64]) -> tuple[float, ...]:
    """Weight of each class from its pixels.

    Parameters
    ----------
    kind : str or tuple
        ``inverse``: total / own pixels, as seed 003; ``sqrt-inverse``: its root; or the weights.
    pixels : int64, shape (classes,)
        Pixels of each class.
    """
    if not isinstance(kind, str):
        return kind
    ratio = pixels.sum() / np.maximum(pixels, 1)
    return tuple(float(value) for value in (ratio if kind == "inverse" else np.sqrt(ratio)))


def palette(recipe: Recipe) -> NDArray[np.uint8]:
    """Colour of each class, uint8 (classes, 3)."""
    return np.array([item.color for item in recipe.class_list], np.uint8)


def _count_pixels(stock: Stock, progress: Progress | None) -> NDArray[np.int64]:
    """Pixels of each class over the training images; refuses classes that are nowhere."""
    counts = _read_all(stock, progress)
    pixels = counts.sum(0)
    absent = [c for c, count in zip(stock.rule.classes, pixels, strict=True) if count == 0]
    names = ", ".join(item.name for item in absent)
    if not all(item.optional for item in absent):
        raise DataError(
            "every class must have pixels in the training masks. Received: none of "
            f"{names} in {len(stock)} masks of {stock.pairs[0].image.parent.parent}.",
            hint="look at the masks, or at the recipe's mask.threshold and classes; a class that "
            "may be missing is optional = true.",
        )
    if absent:
        log.warning("no training mask shows %s: never to be found", names)
    shows = (counts[:, 1:].sum(1) > 0).tolist()
    masked = [(pair, some) for pair, some in zip(stock.pairs, shows, strict=True) if pair.mask]
    empty = [pair.image for pair, some in masked if not some]
    if empty:
        log.warning(
            "%d of %d training masks hold background only: %s", len(empty), len(masked), empty[0]
        )
    return np.asarray(pixels, np.int64)


def _read_all(stock: Stock, progress: Progress | None) -> NDArray[np.int64]:
    if progress is None:
        return stock.preload()
    return stock.preload(lambda done, of: progress("reading images", done, of))


def _thumb(image: NDArray[np.uint8], side: int = 256) -> NDArray[np.uint8]:
    factor = side / max(image.shape[:2])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    small = cv2.resize(image, (0, 0), fx=factor, fy=factor, interpolation=how)
    framed = np.full((side + 4, side + 4, 3), 255, np.uint8)
    framed[: small.shape[0], : small.shape[1]] = small
    return framed
