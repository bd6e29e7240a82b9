"""Scores of pixels, image by image and class by class, on decided class maps.

A class that is in neither map has nothing to be scored by: its scores are NaN, to be left out of
means. One that is in one map only scores 0.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["PixelScores", "boundary_f1", "confusion_matrix", "mean_scores", "score_pixels"]


@dataclass(frozen=True)
class PixelScores:
    """Scores of one image, each float64 of shape (classes,), NaN where a class is in neither map.

    With TP, FP, FN the pixels of a class that are found, made up and missed.
    """

    dice: NDArray[np.float64]
    """2 TP / (2 TP + FP + FN)."""

    iou: NDArray[np.float64]
    """TP / (TP + FP + FN)."""

    precision: NDArray[np.float64]
    """TP / (TP + FP); 0 where the class was not found at all."""

    recall: NDArray[np.float64]
    """TP / (TP + FN); 0 where the class is not there."""

    boundary_f1: NDArray[np.float64]
    """See `boundary_f1`."""


def score_pixels(
    predicted: NDArray[Any], truth: NDArray[Any], classes: int, tolerance_px: float = 2.0
) -> PixelScores:
    """Score one class map.

    Parameters
    ----------
    predicted, truth : int, shape (H, W)
        Class of each pixel, 0..classes-1.
    classes : int
        Number of classes, background included.
    tolerance_px : float
        How far two outlines may lie apart and still agree.

    Raises
    ------
    DataError
        If the maps differ in size, or hold a class that there is not.

    Examples
    --------
    >>> scores = score_pixels(np.array([[0, 1, 1]]), np.array([[0, 0, 1]]), 2)
    >>> scores.iou.tolist()
    [0.5, 0.5]
    """
    counts = confusion_matrix(predicted, truth, classes)
    shared = np.diag(counts).astype(float)
    found, true = counts.sum(0).astype(float), counts.sum(1).astype(float)
    present = found + true > 0
    outlines = [
        boundary_f1(predicted == index, truth == index, tolerance_px) if present[index] else np.nan
        for index in range(classes)
    ]
    return PixelScores(
        dice=_share(2 * shared, found + true, present),
        iou=_share(shared, found + true - shared, present),
        precision=_share(shared, found, present),
        recall=_share(shared, true, present),
        boundary_f1=np.array(outlines),
    )


def confusion_matrix(
    predicted: NDArray[Any], truth: NDArray[Any], classes: int
) -> NDArray[np.int64]:
    """Count the pixels of each pair: int64 (classes, classes), true class by predicted class.

    Raises
    ------
    DataError
        If the maps differ in size, or hold a class that there is not.
    """
    if predicted.shape != truth.shape:
        raise DataError(
            "a class map must have its truth's size. "
            f"Received: predicted={predicted.shape}, truth={truth.shape}."
        )
    for name, values in (("predicted", predicted), ("truth", truth)):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise DataError(
                f"classes must be 0..{classes - 1}. "
                f"Received: {name} holds {int(values.min())}..{int(values.max())}."
            )
    pairs = truth.astype(np.int64).ravel() * classes + predicted.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def boundary_f1(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance_px: float = 2.0
) -> float:
    """F1 of two outlines; a pixel of one is right within ``tolerance_px`` of the other.

    Outlines are the pixels of a mask with a 4-neighbour outside it; the image's border is no
    outline. P is the share of the predicted outline that lies near the true one, R the share of the
    true one that lies near the predicted one; the score is 2 P R / (P + R), 1 if neither mask has
    an outline, 0 if one has.

    Parameters
    ----------
    predicted, truth : bool, shape (H, W)
    tolerance_px : float
        Euclidean distance.

    References
    ----------
    .. [1] Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic
       segmentation?", BMVC 2013.
    """
    outlines = [_outline(np.asarray(mask)) for mask in (predicted, truth)]
    if not any(outline.any() for outline in outlines):
        return 1.0
    if not all(outline.any() for outline in outlines):
        return 0.0
    precision, recall = (
        float((_distance_to(other)[outline] <= tolerance_px).mean())
        for outline, other in (outlines, outlines[::-1])
    )
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def mean_scores(scores: Iterable[PixelScores]) -> PixelScores:
    """Average over images that hold the class; NaN where none does."""
    known = list(scores)
    return PixelScores(
        **{
            item.name: _mean_known(np.array([getattr(score, item.name) for score in known]))
            for item in fields(PixelScores)
        }
    )


def _mean_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(0)
    return np.divide(total, known.sum(0), out=np.full_like(total, np.nan), where=known.any(0))


def _share(
    part: NDArray[np.float64], whole: NDArray[np.float64], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    found = np.where(present, 0.0, np.nan)
    return np.divide(part, whole, out=found, where=whole > 0)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    # Beyond the image OpenCV takes the mask to go on, so its border is no outline.
    inside = cv2.erode(mask.astype(np.uint8), cross)
    return mask & (inside == 0)


def _distance_to(outline: NDArray[np.bool_]) -> NDArray[np.float32]:
    away = (~outline).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
