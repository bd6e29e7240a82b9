"""How well a bundle tells classes: Dice of each, image by image, and a picture of the worst."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cellseg.errors import DataError
from cellseg.runtime.metrics import dice
from cellseg.train.data import load_source
from cellseg.train.recipe import NormalizeRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.data import LabelledImage
    from cellseg.train.recipe import Recipe

__all__ = ["ClassScore", "evaluate_classes", "format_class_table", "summarize_classes"]

_WORST_SHOWN = 12
_PANEL_PX = 180


@dataclass(frozen=True)
class ClassScore:
    """What one image got, or the mean over the images of a source."""

    source: str
    """Source of the image."""
    stem: str
    """File name without suffix; empty for a mean."""
    images: int
    """Images the numbers stand for."""
    dice: dict[str, float]
    """Foreground class to Dice; 1 where an image has none of it and none was found."""

    @property
    def mean(self) -> float:
        """Mean over the classes."""
        return float(np.mean(list(self.dice.values())))


def evaluate_classes(
    recipe: Recipe,
    data_root: Path,
    split: str = "test",
    model: str | Path = "blood",
    folder: Path | None = None,
    engine: str = "auto",
    precision: str = "auto",
) -> list[ClassScore]:
    """Score a bundle on a split of a recipe's sources, through the runtime that users run.

    Parameters
    ----------
    recipe : Recipe
        Names the sources.
    data_root : Path
        Folder the sources' paths are relative to.
    split : str
        "train", "valid" or "test".
    model : str or Path
        A shipped bundle's name or a file; its classes are matched by name.
    folder : Path, optional
        Where to write ``per-image.csv``, ``summary.json`` and ``worst.jpg``.
    engine, precision : str
        As for `infer`.

    Returns
    -------
    list of ClassScore
        Means, a source each.

    Raises
    ------
    DataError
        If the split has no images, or a class that the model lacks.
    """
    from cellseg.runtime.segmenter import Segmenter

    segmenter = Segmenter.load(model, engine=engine, precision=precision)
    named = segmenter.bundle.manifest.classes
    names = [item.name for item in named]
    raw = NormalizeRecipe(kind="none")  # the runtime brings intensities to range itself
    images = [
        item
        for source in recipe.sources
        for item in load_source(source, data_root, split, raw, names)
    ]
    if not images:
        raise DataError(f"a split to score on holds images. Received: none in {split}.")
    found = [segmenter(item.image).classes for item in images]
    scores = [_score(item, classes, names) for item, classes in zip(images, found, strict=True)]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        _write(scores, folder)
        palette = np.array([item.color for item in named], np.uint8)
        _save_worst(images, found, scores, palette, folder / "worst.jpg")
    return summarize_classes(scores)


def summarize_classes(scores: Sequence[ClassScore]) -> list[ClassScore]:
    """Average the scores of each source."""
    groups: dict[str, list[ClassScore]] = {}
    for score in scores:
        groups.setdefault(score.source, []).append(score)
    return [
        ClassScore(
            source,
            "",
            len(group),
            {name: float(np.mean([s.dice[name] for s in group])) for name in group[0].dice},
        )
        for source, group in groups.items()
    ]


def format_class_table(summary: Sequence[ClassScore]) -> str:
    """Format the means as a Markdown table."""
    names = list(summary[0].dice)
    lines = [
        "| " + " | ".join(["source", "images", *(f"Dice {name}" for name in names), "mean"]) + " |",
        "|---" * (len(names) + 3) + "|",
    ]
    for score in summary:
        values = [f"{score.dice[name]:.3f}" for name in names] + [f"{score.mean:.3f}"]
        lines.append("| " + " | ".join([score.source, str(score.images), *values]) + " |")
    return "\n".join(lines)


def _score(item: LabelledImage, classes: NDArray[np.uint8], names: list[str]) -> ClassScore:
    values = {
        name: dice(classes == index, item.labels == index)
        for index, name in enumerate(names)
        if index > 0
    }
    return ClassScore(item.source, item.stem, 1, values)


def _write(scores: list[ClassScore], folder: Path) -> None:
    """Write ``per-image.csv``, worst first, and ``summary.json``."""
    names = list(scores[0].dice)
    with (folder / "per-image.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "stem", *(f"dice_{name}" for name in names)])
        for score in sorted(scores, key=lambda s: (s.source, s.mean)):
            values = [f"{score.dice[name]:.4f}" for name in names]
            writer.writerow([score.source, score.stem, *values])
    summary = {score.source: asdict(score) for score in summarize_classes(scores)}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _save_worst(
    images: list[LabelledImage],
    found: list[NDArray[np.uint8]],
    scores: list[ClassScore],
    palette: NDArray[np.uint8],
    picture: Path,
) -> None:
    """Show the worst images, each beside truth and prediction, three to a row."""
    order = np.argsort([score.mean for score in scores], kind="stable")[:_WORST_SHOWN]
    panels = []
    for index in order:
        parts = (images[index].image, palette[images[index].labels], palette[found[index]])
        panels.append(np.hstack([_panel(part) for part in parts]))
        text = f"{scores[index].stem} {scores[index].mean:.3f}"
        for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            font = cv2.FONT_HERSHEY_SIMPLEX
            cv2.putText(panels[-1], text, (6, 16), font, 0.45, colour, thick, cv2.LINE_AA)
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % 3)
    sheet = np.vstack([np.hstack(panels[i : i + 3]) for i in range(0, len(panels), 3)])
    cv2.imwrite(str(picture), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def _panel(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fit an image into a square of ``_PANEL_PX``."""
    scale = _PANEL_PX / max(image.shape[:2])
    shrunk = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    framed = np.full((_PANEL_PX + 4, _PANEL_PX + 4, 3), 255, np.uint8)
    framed[: shrunk.shape[0], : shrunk.shape[1]] = shrunk[:_PANEL_PX, :_PANEL_PX]
    return framed
