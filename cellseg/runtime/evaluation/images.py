"""What labelled images score, pixels and objects: for training, export and benchmarks alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.evaluation.metrics import Matches, count_error, dice, match_objects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.evaluation.labelled import LabelledImage

__all__ = ["ImageScore", "SourceScore", "average", "pooled", "score_prediction"]


@dataclass(frozen=True)
class ImageScore:
    """What one image got."""

    source: str
    """Source of the image."""
    stem: str
    """Its file name without suffix."""
    class_dice: tuple[float, ...]
    """Dice of each class but background."""
    matches: Matches | None
    """Objects found, missed and made up at IoU 0.5; None where none were told apart."""

    @property
    def dice(self) -> float:
        """Mean over the classes."""
        return float(np.mean(self.class_dice))

    @property
    def f1(self) -> float:
        """F1 of objects; 1 where none were told apart."""
        return 1.0 if self.matches is None else self.matches.f1

    @property
    def predicted(self) -> int:
        """Objects found."""
        return 0 if self.matches is None else self.matches.predicted

    @property
    def truth(self) -> int:
        """Objects there are."""
        return 0 if self.matches is None else self.matches.truth


@dataclass(frozen=True)
class SourceScore:
    """Means over the images of one source."""

    images: int
    """Number of images."""
    dice: float
    """Mean per-image Dice."""
    f1: float
    """Mean per-image F1 of objects at IoU 0.5."""
    f1_pooled: float
    """F1 with the objects of all images counted together."""
    count_error: float
    """|found - true| / true, over all objects of the source."""


def score_prediction(
    item: LabelledImage,
    classes: NDArray[np.uint8],
    labels: NDArray[Any] | None,
    class_count: int = 2,
) -> ImageScore:
    """Score what was predicted of an image.

    Parameters
    ----------
    item : LabelledImage
        The image with its truth.
    classes : uint8, shape (H, W)
        Predicted class of each pixel.
    labels : int, shape (H, W), or None
        Predicted instances; None if the model does not tell them apart.
    class_count : int
        Classes, background included.
    """
    truth = item.classes
    overlaps = tuple(dice(classes == index, truth == index) for index in range(1, class_count))
    matches = None
    if labels is not None and item.has_cells:
        matches = match_objects(labels, item.labels)
    return ImageScore(item.source, item.stem, overlaps, matches)


def pooled(scores: Sequence[ImageScore]) -> Matches | None:
    """Sum up the objects of images; None where none of them told any apart."""
    counted = [score.matches for score in scores if score.matches is not None]
    if not counted:
        return None
    return Matches(
        sum(each.true_positives for each in counted),
        sum(each.false_positives for each in counted),
        sum(each.false_negatives for each in counted),
    )


def average(scores: Sequence[ImageScore]) -> SourceScore:
    """Average the scores of images whose objects were told apart, at least one."""
    objects = pooled(scores)
    assert objects is not None
    return SourceScore(
        images=len(scores),
        dice=float(np.mean([score.dice for score in scores])),
        f1=float(np.mean([score.f1 for score in scores])),
        f1_pooled=objects.f1,
        count_error=count_error(objects.predicted, objects.truth),
    )
