"""Scores of all images of a split, run one way: plain or tiled."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.train.pixel_metrics import (
    PixelScores,
    confusion_matrix,
    mean_scores,
    score_pixels,
)
from cellseg.train.predict import class_map
from cellseg.train.reliability import Reliability

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.truth import Truth

__all__ = ["WayScores"]


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

    def write_table(self, path: Path) -> None:
        """Write a CSV, a row an image, the worst first."""
        keys = [item.name for item in fields(PixelScores)]
        names = self.class_names[1:]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["source", "image", "mean_dice", *(f"{k}_{n}" for n in names for k in keys)]
            )
            for index in np.argsort(np.where(np.isnan(self.dice), 2.0, self.dice)):
                values = [
                    getattr(self.scores[index], key)[place]
                    for place in range(1, len(self.class_names))
                    for key in keys
                ]
                numbers = ["" if np.isnan(v) else f"{v:.4f}" for v in (self.dice[index], *values)]
                writer.writerow([*self.names[index], *numbers])


def _pooled_dice(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    both = (confusion.sum(0) + confusion.sum(1)).astype(float)
    shared = 2.0 * np.diag(confusion)
    return np.divide(shared, both, out=np.full(len(both), np.nan), where=both > 0)


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
