"""How good the pixels of a model are: scores true per image and class, and what they hide.

Every image is scored at its own size, whatever the network saw. One folder holds::

    per-image.csv    a row an image, the worst first     summary.json    everything as numbers
    images.jpg       best, median and worst images       confusion.png   true by predicted class
    calibration.png  said and true probability           thresholds.csv, .png   the best threshold

and the same files with ``-tiled`` in their names where tiles were scored too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.train.scores.truth import labelled_images
from cellseg.train.scores.way_scores import WayScores
from cellseg.train.tasks.class_task import palette

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.networks.predict import Predictor
    from cellseg.train.progress import Progress
    from cellseg.train.sections import Recipe

__all__ = ["format_scores", "report_pixels"]


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


def format_scores(result: dict[str, Any]) -> str:
    """Set the scores out as a Markdown table, a row a class and way, and in words."""
    lines = [
        "| way | class | images with it | Dice, all pixels | Dice, mean of images "
        "| of those with it | IoU | precision | recall | boundary F1 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    said = []
    for way in (name for name in ("plain", "tiled") if name in result):
        part = result[way]
        for name, row in list(part["classes"].items())[1:]:
            keys = ("dice_pooled", "dice", "dice_where_shown", "iou", "precision", "recall")
            numbers = " | ".join(_three(row[key]) for key in (*keys, "boundary_f1"))
            lines.append(f"| {way} | {name} | {row['images_shown']} | {numbers} |")
        said.append(_in_words(way, part))
    return "\n".join([*lines, "", *said])


def _in_words(way: str, part: dict[str, Any]) -> str:
    best = part["thresholds"]["best"]
    return (
        f"{way}, {part['images']} images: mean foreground Dice {_three(part['mean_dice_pooled'])} "
        f"over all pixels, {_three(part['mean_dice'])} as the mean of images (a class found where "
        f"it is not counts 0), pixel accuracy {part['pixel_accuracy']:.4f}, calibration error "
        f"{part['calibration']['error']:.4f}, best threshold {best['threshold']:.2f} "
        f"(Dice {best['dice']:.3f})"
    )


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _write(
    recipe: Recipe,
    root: Path,
    split: str,
    predictor: Predictor,
    found: dict[str, WayScores],
    result: dict[str, Any],
    out: Path,
) -> None:
    from cellseg.train.scores.report_pictures import (
        draw_calibration,
        draw_confusion,
        draw_ranked,
        draw_thresholds,
    )

    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for way, scores in found.items():
        suffix = "" if way == "plain" else f"-{way}"
        scores.write_table(out / f"per-image{suffix}.csv")
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
