"""What losses of pixels share, in ``keras.ops``: for one sigmoid channel as well as for classes.

Every loss takes the truth in one of two forms, and probabilities p (N, H, W, C)::

    y (N, H, W, C)   0 or 1 for each channel
    y (N, H, W[, 1]) index of the class, where C > 1
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["TINY", "PixelLoss", "dense_truth", "registered"]

TINY = 1e-7
"""Keeps logarithms and slopes finite."""


def registered(loss: type) -> type:
    """Let saved models find a loss by its name, wherever its module lies."""
    return keras.saving.register_keras_serializable(package="cellseg")(loss)


def dense_truth(y_true: Any, y_pred: Any) -> Any:
    """Bring the truth to the form of the prediction: float32 (N, H, W, C) of 0 and 1."""
    classes = y_pred.shape[-1]
    if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == classes:
        return ops.cast(y_true, "float32")
    if len(y_true.shape) == len(y_pred.shape):
        y_true = y_true[..., 0]
    if classes == 1:
        return ops.cast(y_true[..., None], "float32")
    return ops.one_hot(ops.cast(y_true, "int32"), classes, dtype="float32")


class PixelLoss(keras.losses.Loss):
    """Base of the losses here: constructor arguments are kept, so that a saved model loads."""

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(name=name)
        self._settings = settings

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of one batch, a scalar."""
        probabilities = ops.cast(y_pred, "float32")
        return self.of(dense_truth(y_true, probabilities), probabilities)

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the loss; both float32 (N, H, W, C)."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"name": self.name, **self._settings}
