"""How good the pixels of a model are: scores true per image and class, and what they hide.

Every image is scored at its own size, whatever the network saw. One folder holds::

    per-image.csv    a row an image, the worst first     summary.json    everything as numbers
    images.jpg       best, median and worst images       confusion.png   true by predicted class
    calibration.png  said and true probability           thresholds.csv, .png   the best threshold

and the same files with ``-tiled`` in their names where tiles were scored too.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import DataError
from cellseg.train.class_task import palette
from cellseg.train.masks import fit_mask_rule, read_image
from cellseg.train.pairs import check_sizes, find_pairs, masks_of
from cellseg.train.pixel_metrics import (
    PixelScores,
    confusion_matrix,
    mean_scores,
    score_pixels,
)
from cellseg.train.predict import class_map
from cellseg.train.reliability import Reliability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.predict import Predictor
    from cellseg.train.sections import Recipe

    Progress = Callable[[str, int, int], None]

__all__ = ["WayScores", "format_scores", "labelled_images", "report_pixels"]


@dataclass(frozen=True)
class Truth:
    """A labelled image at its own size."""

    source: str
    """Source of the image."""

    name: str
    """File name."""

    image: NDArray[Any]
    """RGB as it was read, shape (H, W, 3)."""

    classes: NDArray[np.uint8]
    """Class of each pixel, shape (H, W)."""


@dataclass
class WayScores:
    """Scores of all images, run one way."""

    way: str
    """``plain`` or ``tiled``."""

    class_names: tuple[str, ...]
    """Background first."""

    names: list[tuple[str, str]] = field(default_factory=list)
    """Source and file name of each image."""

    scores: list[PixelScores] = field(default_factory=list)
    """Scores of each image."""

    confusion: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    """Pixels, true class by predicted class."""

    reliability: Reliability = field(default_factory=Reliability)
    """Calibration and threshold sweep."""

    def add(self, truth: Truth, probabilities: NDArray[np.float32], threshold: float) -> None:
        """Score one image."""
        found = class_map(probabilities, threshold)
        count = len(self.class_names)
        self.names.append((truth.source, truth.name))
        self.scores.append(score_pixels(found, truth.classes, count))
        counts = confusion_matrix(found, truth.classes, count)
        self.confusion = counts if not self.confusion.size else self.confusion + counts
        self.reliability.add(1.0 - probabilities[..., 0], truth.classes > 0)

    @property
    def dice(self) -> NDArray[np.float64]:
        """Mean Dice of the foreground classes of each image, NaN where none is there or found."""
        table = np.array([score.dice[1:] for score in self.scores])
        known = ~np.isnan(table)
        total = np.where(known, table, 0).sum(1)
        return np.divide(total, known.sum(1), out=np.full(len(table), np.nan), where=known.any(1))

    def summary(self) -> dict[str, Any]:
        """Everything as numbers; null where a class is nowhere."""
        mean = mean_scores(self.scores)
        pooled = _pooled_dice(self.confusion)
        classes = {
            name: {item.name: _number(getattr(mean, item.name)[i]) for item in fields(PixelScores)}
            | {"dice_pooled": _number(pooled[i])}
            for i, name in enumerate(self.class_names)
        }
        foreground = self.dice[~np.isnan(self.dice)]
        return {
            "images": len(self.names),
            "mean_dice": _number(foreground.mean() if foreground.size else np.nan),
            "median_dice": _number(np.median(foreground) if foreground.size else np.nan),
            "pixel_accuracy": _number(np.trace(self.confusion) / max(self.confusion.sum(), 1)),
            "classes": classes,
            "confusion": self.confusion.tolist(),
            **self.reliability.summary(),
        }


def report_pixels(
    recipe: Recipe,
    root: Path,
    split: str,
    predictor: Predictor,
    ways: Sequence[str],
    out: Path | None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a model on a split, and write tables and pictures.

    Parameters
    ----------
    recipe : Recipe
        Names the images and the classes.
    root : Path
        Folder its paths start from.
    split : str
        "train", "valid" or "test".
    predictor : Predictor
        The model.
    ways : sequence of str
        Among ``plain`` and ``tiled``.
    out : Path, optional
        Folder to write to.
    progress : callable, optional
        Called with what is going on, how far it is, and how far it goes.

    Returns
    -------
    dict
        What ``summary.json`` holds.

    Raises
    ------
    DataError
        If the split has no images, or images and masks do not fit.
    """
    names = tuple(item.name for item in recipe.class_list)
    found = {way: WayScores(way, names) for way in ways}
    total = 0
    for done, (of, truth) in enumerate(labelled_images(recipe, root, split), 1):
        total = of
        for way, scores in found.items():
            scores.add(truth, getattr(predictor, way)(truth.image), recipe.infer.threshold)
        if progress is not None:
            progress("scoring", done, of)
    assert total > 0  # labelled_images refuses an empty split
    result = {
        "schema": "cellseg.evaluation/1",
        "model": predictor.name,
        "recipe": recipe.name,
        "split": split,
        "threshold": recipe.infer.threshold,
        **{way: scores.summary() for way, scores in found.items()},
    }
    if out is not None:
        _write(recipe, root, split, predictor, found, result, out)
    return result


def labelled_images(recipe: Recipe, root: Path, split: str) -> Iterator[tuple[int, Truth]]:
    """Read the images of a split one by one, with their number.

    Raises
    ------
    DataError
        If there are none, or images and masks do not fit.
    """
    if recipe.target.kind == "instances":
        yield from _instance_images(recipe, root, split)
        return
    pairs = find_pairs(recipe, root, split)
    if not pairs:
        raise DataError(
            f"a split to score on holds images. Received: none in {split}.",
            hint="name sources.test in the recipe, set sources.test_part, or say --split valid.",
        )
    check_sizes(pairs)
    trained_on = find_pairs(recipe, root, "train") if recipe.mask.threshold is None else []
    rule = fit_mask_rule(recipe, masks_of(trained_on))
    for pair in pairs:
        image = read_image(pair.image)
        nothing = np.zeros(image.shape[:2], np.uint8)
        classes = nothing if pair.mask is None else rule.read(pair.mask)
        yield len(pairs), Truth(pair.source, pair.image.name, image, classes)


def _instance_images(recipe: Recipe, root: Path, split: str) -> Iterator[tuple[int, Truth]]:
    from cellseg.train.evaluate import load_split

    items = load_split(recipe, root, split)
    for item in items:
        yield (
            len(items),
            Truth(item.source, item.stem, item.image, (item.labels > 0).astype(np.uint8)),
        )


def format_scores(result: dict[str, Any]) -> str:
    """Set the scores out as a Markdown table, a row a class and way."""
    lines = [
        "| way | class | images | Dice | IoU | precision | recall | boundary F1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    said = []
    for way in (name for name in ("plain", "tiled") if name in result):
        part = result[way]
        for name, row in list(part["classes"].items())[1:]:
            keys = ("dice", "iou", "precision", "recall", "boundary_f1")
            numbers = " | ".join("-" if row[key] is None else f"{row[key]:.3f}" for key in keys)
            lines.append(f"| {way} | {name} | {part['images']} | {numbers} |")
        best = part["thresholds"]["best"]
        mean = "-" if part["mean_dice"] is None else f"{part['mean_dice']:.3f}"
        said.append(
            f"{way}: mean Dice of an image {mean}, pixel accuracy {part['pixel_accuracy']:.4f}, "
            f"calibration error {part['calibration']['error']:.4f}, best threshold "
            f"{best['threshold']:.2f} (Dice {best['dice']:.3f})"
        )
    return "\n".join([*lines, "", *said])


def _write(
    recipe: Recipe,
    root: Path,
    split: str,
    predictor: Predictor,
    found: dict[str, WayScores],
    result: dict[str, Any],
    out: Path,
) -> None:
    from cellseg.train.report_pictures import (
        draw_calibration,
        draw_confusion,
        draw_ranked,
        draw_thresholds,
    )

    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for way, scores in found.items():
        suffix = "" if way == "plain" else f"-{way}"
        _write_table(scores, out / f"per-image{suffix}.csv")
        scores.reliability.write_thresholds(out / f"thresholds{suffix}.csv")
        draw_confusion(scores, out / f"confusion{suffix}.png")
        draw_calibration(scores.reliability, out / f"calibration{suffix}.png")
        draw_thresholds(scores.reliability, out / f"thresholds{suffix}.png")
        ranked = _ranked(scores.dice)
        wanted = {scores.names[index]: rank for rank, index in ranked}
        panels = [
            (wanted[truth.source, truth.name], truth, getattr(predictor, way)(truth.image))
            for _, truth in labelled_images(recipe, root, split)
            if (truth.source, truth.name) in wanted
        ]
        draw_ranked(panels, palette(recipe), recipe.infer.threshold, out / f"images{suffix}.jpg")


def _ranked(dice: NDArray[np.float64], each: int = 3) -> list[tuple[str, int]]:
    """Images to show: the best, those about the median, the worst; each image once."""
    order = np.argsort(np.where(np.isnan(dice), 2.0, dice))
    middle = max(0, len(order) // 2 - each // 2)
    groups = (
        ("worst", order[:each]),
        ("best", order[::-1][:each]),
        ("median", order[middle : middle + each]),
    )
    chosen: dict[int, str] = {}
    for name, group in groups:
        for place, index in enumerate(group, 1):
            chosen.setdefault(int(index), f"{name} {place}")
    return [(name, index) for index, name in chosen.items()]


def _write_table(scores: WayScores, path: Path) -> None:
    keys = [item.name for item in fields(PixelScores)]
    names = scores.class_names[1:]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["source", "image", "mean_dice", *(f"{k}_{n}" for n in names for k in keys)]
        )
        for index in np.argsort(np.where(np.isnan(scores.dice), 2.0, scores.dice)):
            values = [
                getattr(scores.scores[index], key)[place]
                for place in range(1, len(scores.class_names))
                for key in keys
            ]
            numbers = ["" if np.isnan(v) else f"{v:.4f}" for v in (scores.dice[index], *values)]
            writer.writerow([*scores.names[index], *numbers])


def _pooled_dice(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    both = (confusion.sum(0) + confusion.sum(1)).astype(float)
    shared = 2.0 * np.diag(confusion)
    return np.divide(shared, both, out=np.full(len(both), np.nan), where=both > 0)


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
