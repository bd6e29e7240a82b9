"""Scores that are logged while a network is trained: Keras metrics, in ``keras.ops``.

The true ones decide each pixel and average over images and classes; the seeds' own are soft sums
over a batch, kept so that their curves can be compared.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from cellseg.train.losses.pixel import dense_truth

__all__ = [
    "ImageScore",
    "binary_accuracy",
    "dice_coef",
    "iou_coef",
    "pixel_accuracy",
    "sensitivity",
    "specificity",
]

_TINY = 1e-7


@keras.saving.register_keras_serializable(package="cellseg")
class ImageScore(keras.metrics.Metric):
    """Mean over images and classes of a score of decided pixels.

    One channel is decided at ``threshold``, classes by the largest probability; background is left
    out. With TP, FP, FN the pixels of a class in one image: ``dice`` 2 TP / (2 TP + FP + FN),
    ``iou`` TP / (TP + FP + FN), ``precision`` TP / (TP + FP), ``recall`` TP / (TP + FN). A class
    that is neither in the truth nor in the prediction of an image is left out there.

    Parameters
    ----------
    kind : str
        ``dice``, ``iou``, ``precision`` or ``recall``.
    threshold : float
        Foreground probability.
    """

    def __init__(self, kind: str = "dice", threshold: float = 0.5, name: str | None = None) -> None:
        super().__init__(name=name or kind)
        self.kind, self.threshold = kind, threshold
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")
        self.count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in one batch; weights of pixels do not count."""
        probabilities = ops.cast(y_pred, "float32")
        truth = dense_truth(y_true, probabilities)
        scores, present = self._scores(truth, _decided(probabilities, self.threshold))
        self.total.assign_add(ops.sum(scores * present))
        self.count.assign_add(ops.sum(present))

    def _scores(self, truth: Any, found: Any) -> tuple[Any, Any]:
        """Score of each image and class, and whether it counts; both (N, C)."""
        if truth.shape[-1] > 1:
            truth, found = truth[..., 1:], found[..., 1:]
        shared = ops.sum(truth * found, axis=(1, 2))
        true, made = ops.sum(truth, axis=(1, 2)), ops.sum(found, axis=(1, 2))
        present = ops.cast(true + made > 0, "float32")
        whole = {
            "dice": (true + made) / 2.0,
            "iou": true + made - shared,
            "precision": made,
            "recall": true,
        }[self.kind]
        return shared / ops.maximum(whole, _TINY), present

    def result(self) -> Any:
        """Return the mean so far; 0 before any class was seen."""
        return self.total / ops.maximum(self.count, _TINY)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"kind": self.kind, "threshold": self.threshold, "name": self.name}


def dice_coef(y_true: Any, y_pred: Any) -> Any:
    """Return the seeds' soft Dice of a batch: ``(2 sum y p + 1) / (sum y + sum p + 1)``.

    With classes, sums run over them too, so that it is soft pixel accuracy; `ImageScore` is not.
    """
    truth, found = _both(y_true, y_pred)
    return (2.0 * ops.sum(truth * found) + 1.0) / (ops.sum(truth) + ops.sum(found) + 1.0)


def iou_coef(y_true: Any, y_pred: Any) -> Any:
    """Return the seeds' soft IoU of a batch: ``sum y p / sum (y + p - y p)``; 0 if empty."""
    truth, found = _both(y_true, y_pred)
    shared = ops.sum(truth * found)
    return shared / ops.maximum(ops.sum(truth) + ops.sum(found) - shared, _TINY)


def sensitivity(y_true: Any, y_pred: Any) -> Any:
    """Share of the batch's foreground that is found at 0.5: ``TP / (TP + FN)``."""
    truth, found = _both(y_true, y_pred)
    return ops.sum(truth * ops.round(found)) / (ops.sum(truth) + _TINY)


def specificity(y_true: Any, y_pred: Any) -> Any:
    """Share of the batch's background that is left alone at 0.5: ``TN / (TN + FP)``."""
    truth, found = _both(y_true, y_pred)
    return ops.sum((1.0 - truth) * ops.round(1.0 - found)) / (ops.sum(1.0 - truth) + _TINY)


def binary_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Share of pixels and channels that are right at 0.5, as Keras counts them: p > 0.5 is 1."""
    truth, found = _both(y_true, y_pred)
    return ops.mean(ops.cast(ops.equal(truth, ops.cast(found > 0.5, "float32")), "float32"))


def pixel_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Share of pixels whose class is right: the largest of several, or one channel at 0.5."""
    truth, found = _both(y_true, y_pred)
    if found.shape[-1] == 1:
        return binary_accuracy(truth, found)
    right = ops.equal(ops.argmax(truth, axis=-1), ops.argmax(found, axis=-1))
    return ops.mean(ops.cast(right, "float32"))


def _both(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    probabilities = ops.cast(y_pred, "float32")
    return dense_truth(y_true, probabilities), probabilities


def _decided(probabilities: Any, threshold: float) -> Any:
    if probabilities.shape[-1] == 1:
        return ops.cast(probabilities >= threshold, "float32")
    winner = ops.argmax(probabilities, axis=-1)
    return ops.one_hot(winner, probabilities.shape[-1], dtype="float32")
