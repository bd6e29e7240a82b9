"""The loss of the interior/border head, in ``keras.ops``."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from cellseg.train.targets import BACKGROUND, BORDER

TINY = 1e-6


@keras.saving.register_keras_serializable(package="cellseg")
class InteriorBorderLoss(keras.losses.Loss):
    """Weighted cross-entropy + foreground Dice (+ squared error of the distance).

    With p the softmax of background, interior, border, t the true class, f = 1 - p_background
    and F the true foreground::

        CE   = mean_px( w_t * -log p_t ),   w = border_weight for border, else 1
        Dice = 1 - (2 sum f F + 1) / (sum f + sum F + 1)    sums over the whole batch
        loss = CE + Dice + 2 * mean_px( (d - D)^2 )         the last only with a distance channel

    The Dice sums run over the batch: taken per crop, one with a few foreground pixels or none
    outweighs all others, and training stalls.

    Parameters
    ----------
    border_weight : float
        Weight of border pixels in the cross-entropy.
    """

    def __init__(self, border_weight: float = 2.0, name: str = "interior_border") -> None:
        super().__init__(name=name)
        self.border_weight = border_weight

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of one batch; ``y_true`` (N, H, W, 2): class and distance."""
        truth = ops.cast(y_true[..., 0], "int32")
        chosen = ops.sum(ops.one_hot(truth, 3) * y_pred[..., :3], axis=-1)
        weight = 1.0 + (self.border_weight - 1.0) * ops.cast(truth == BORDER, "float32")
        loss = ops.mean(-ops.log(ops.maximum(chosen, TINY)) * weight)
        loss = loss + soft_dice_loss(truth != BACKGROUND, 1.0 - y_pred[..., 0])
        if y_pred.shape[-1] > 3:
            loss = loss + 2.0 * ops.mean(ops.square(y_pred[..., 3] - y_true[..., 1]))
        return loss

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"border_weight": self.border_weight, "name": self.name}


def soft_dice_loss(truth: Any, probability: Any) -> Any:
    """1 - Dice of a whole batch, with 1 added to both halves; arrays (N, H, W)."""
    truth = ops.cast(truth, "float32")
    shared = ops.sum(truth * probability)
    both = ops.sum(truth) + ops.sum(probability)
    return 1.0 - (2.0 * shared + 1.0) / (both + 1.0)
