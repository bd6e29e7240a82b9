"""The loss of the interior/border head, in ``keras.ops``."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from cellseg.train.images.targets import BACKGROUND
from cellseg.train.losses.pixel import registered

__all__ = ["InteriorBorderLoss"]

_LEAST = 1e-6  # a probability whose logarithm is still finite


@registered
class InteriorBorderLoss(keras.losses.Loss):
    """Numbered cells take it by themselves: cross-entropy + Dice (+ squared error of distance).

    With p the softmax of background, interior, border, t the true class, f = 1 - p_background
    and F the true foreground::

        CE   = mean_px( w * -log p_t ),   w: the target's weight, larger between touching nuclei
        Dice = 1 - (2 sum f F + 1) / (sum f + sum F + 1)    sums over the whole batch
        loss = CE + Dice + 2 * mean_px( (d - D)^2 )         the last only with a distance channel

    The Dice sums run over the batch: taken per crop, one with a few foreground pixels or none
    outweighs all others, and training stalls.
    """

    def __init__(self, name: str = "interior_border") -> None:
        super().__init__(name=name)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of one batch; ``y_true`` (N, H, W, 2 or 3): class, weight, distance."""
        truth = ops.cast(y_true[..., 0], "int32")
        chosen = ops.sum(ops.one_hot(truth, 3) * y_pred[..., :3], axis=-1)
        loss = ops.mean(-ops.log(ops.maximum(chosen, _LEAST)) * y_true[..., 1])
        loss = loss + _soft_dice_loss(truth != BACKGROUND, 1.0 - y_pred[..., 0])
        if y_pred.shape[-1] > 3:
            loss = loss + 2.0 * ops.mean(ops.square(y_pred[..., 3] - y_true[..., 2]))
        return loss

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"name": self.name}


def _soft_dice_loss(truth: Any, probability: Any) -> Any:
    """1 - Dice of a whole batch, with 1 added to both halves; arrays (N, H, W)."""
    truth = ops.cast(truth, "float32")
    shared = ops.sum(truth * probability)
    both = ops.sum(truth) + ops.sum(probability)
    return 1.0 - (2.0 * shared + 1.0) / (both + 1.0)
