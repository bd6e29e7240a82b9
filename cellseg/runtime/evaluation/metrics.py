"""How good a segmentation is: Dice of pixels, F1 of objects, error of counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.evaluation.overlap import Overlap

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Matches:
    """Objects of one image, matched one to one."""

    true_positives: int
    """Predicted objects with a partner in the truth."""
    false_positives: int
    """Predicted objects without one."""
    false_negatives: int
    """True objects without one."""

    @property
    def predicted(self) -> int:
        """Objects found."""
        return self.true_positives + self.false_positives

    @property
    def truth(self) -> int:
        """Objects there are."""
        return self.true_positives + self.false_negatives

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where there is nothing on either side."""
        both = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 1.0 if both == 0 else 2 * self.true_positives / both


def dice(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """Dice of two masks: 2 |A and B| / (|A| + |B|); 1 where both are empty.

    Parameters
    ----------
    predicted, truth : bool, shape (H, W)
    """
    both = int(np.count_nonzero(predicted)) + int(np.count_nonzero(truth))
    shared = int(np.count_nonzero(np.logical_and(predicted, truth)))
    return 1.0 if both == 0 else 2.0 * shared / both


def match_objects(predicted: NDArray[Any], truth: NDArray[Any], min_iou: float = 0.5) -> Matches:
    """Match objects whose intersection over union is above ``min_iou``.

    Parameters
    ----------
    predicted, truth : int, shape (H, W)
        Label maps, 0 = background.
    min_iou : float
        At least 0.5, where no object can have two partners, so no assignment is needed.

    References
    ----------
    .. [1] Caicedo et al., Nature Methods 16, 1247-1253 (2019): F1 at an IoU threshold.
    """
    if min_iou < 0.5:
        raise ValueError(f"min_iou must be >= 0.5, or matches are not unique. Received: {min_iou}.")
    overlap = Overlap.of(predicted, truth)
    found = int(np.count_nonzero(overlap.iou > min_iou))
    return Matches(found, len(overlap.predicted_px) - found, len(overlap.truth_px) - found)


def object_f1(predicted: NDArray[Any], truth: NDArray[Any], min_iou: float = 0.5) -> float:
    """F1 of the objects of one image; see `match_objects`."""
    return match_objects(predicted, truth, min_iou).f1


def count_error(predicted: int, truth: int) -> float:
    """|predicted - truth| / truth; 0 where both are 0, 1 where only the truth is."""
    if truth == 0:
        return 0.0 if predicted == 0 else 1.0
    return abs(predicted - truth) / truth
