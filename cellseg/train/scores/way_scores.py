"""Scores of all images of a split, run one way, and what is said of them together.

Dice of several images is told in three ways, as the literature does:

``mean_dice`` and a class's ``dice``
    Mean of images. In an image a class that is neither there nor found is left out; one that is
    found where it is not, be it a single pixel, scores 0, as in nnU-Net.
``dice_where_shown``
    Mean of the images whose truth has the class; false finds elsewhere do not count.
``mean_dice_pooled`` and ``dice_pooled``
    Pixels of all images counted together, then the mean of the foreground classes that the truth
    shows anywhere, as for the mean IoU of PASCAL VOC and Cityscapes.

References
----------
.. [1] Isensee et al., "nnU-Net", Nature Methods 2021.
.. [2] Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2015.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.train.networks.predict import class_map
from cellseg.train.scores.reliability import Reliability
from cellseg.train.tasks.pixel_metrics import (
    PixelScores,
    confusion_matrix,
    mean_scores,
    score_pixels,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.scores.truth import Truth

__all__ = ["WayScores", "pooled_dice"]


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

    shown: list[NDArray[np.bool_]] = field(default_factory=list)
    """Whether each class is in the truth of each image."""

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
        self.shown.append(counts.sum(1) > 0)
        self.confusion = counts if not self.confusion.size else self.confusion + counts
        self.reliability.add(1.0 - probabilities[..., 0], truth.classes > 0)

    @property
    def dice(self) -> NDArray[np.float64]:
        """Mean Dice of the foreground classes of each image, NaN where none is there or found."""
        return _mean_known(np.array([score.dice[1:] for score in self.scores]), axis=1)

    def summary(self) -> dict[str, Any]:
        """Everything as numbers; null where a class is nowhere."""
        dice, shown = np.array([score.dice for score in self.scores]), np.array(self.shown)
        mean, pooled = mean_scores(self.scores), pooled_dice(self.confusion)
        where_shown = _mean_known(np.where(shown, dice, np.nan), axis=0)
        classes = {
            name: {item.name: _number(getattr(mean, item.name)[i]) for item in fields(PixelScores)}
            | {
                "dice_pooled": _number(pooled[i]),
                "dice_where_shown": _number(where_shown[i]),
                "images_shown": int(shown[:, i].sum()),
            }
            for i, name in enumerate(self.class_names)
        }
        foreground = self.dice[~np.isnan(self.dice)]
        of_classes = pooled[1:][shown[:, 1:].any(0)]
        return {
            "images": len(self.names),
            "mean_dice": _number(foreground.mean() if foreground.size else np.nan),
            "median_dice": _number(np.median(foreground) if foreground.size else np.nan),
            "mean_dice_pooled": _number(of_classes.mean() if of_classes.size else np.nan),
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


def pooled_dice(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice of each class over the pixels of all images together.

    Parameters
    ----------
    confusion : int64, shape (classes, classes)
        Pixels, true class by predicted class.

    Returns
    -------
    float64, shape (classes,)
        NaN where a class is nowhere.
    """
    both = (confusion.sum(0) + confusion.sum(1)).astype(float)
    shared = 2.0 * np.diag(confusion)
    return np.divide(shared, both, out=np.full(len(both), np.nan), where=both > 0)


def _mean_known(table: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean along an axis without NaN; NaN where nothing else is."""
    known = ~np.isnan(table)
    counts, total = known.sum(axis), np.where(known, table, 0.0).sum(axis)
    return np.divide(total, counts, out=np.full_like(total, np.nan), where=counts > 0)


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
