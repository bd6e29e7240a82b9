"""Losses that look at each pixel by itself: cross-entropy and what is made of it."""

from __future__ import annotations

from typing import Any

from keras import ops

from cellseg.train.losses.pixel import TINY, PixelLoss, registered

__all__ = [
    "BceLoss",
    "BoundaryWeightedLoss",
    "CategoricalCrossentropyLoss",
    "FocalLoss",
    "boundary_weights",
]


@registered
class BceLoss(PixelLoss):
    """Binary cross-entropy: ``mean( -y log p - (1 - y) log(1 - p) )``."""

    def __init__(self, name: str = "bce") -> None:
        super().__init__(name)

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean over pixels and channels."""
        return ops.mean(_bce(truth, probabilities))


@registered
class FocalLoss(PixelLoss):
    """Focal loss: ``mean( -a_t (1 - p_t)**gamma log p_t )``.

    One channel: p_t is p where y is 1, else 1 - p, and a_t is alpha or 1 - alpha. Classes: p_t is
    the probability of the true class, and a_t is 1.

    Parameters
    ----------
    gamma : float
        How little sure pixels count; 0 is cross-entropy.
    alpha : float
        Weight of the foreground, for one channel.

    References
    ----------
    .. [1] Lin et al., "Focal loss for dense object detection", ICCV 2017.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25, name: str = "focal") -> None:
        super().__init__(name, gamma=gamma, alpha=alpha)
        self.gamma, self.alpha = gamma, alpha

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean over the pixels."""
        if probabilities.shape[-1] == 1:
            sure = truth * probabilities + (1.0 - truth) * (1.0 - probabilities)
            weight = truth * self.alpha + (1.0 - truth) * (1.0 - self.alpha)
        else:
            sure, weight = ops.sum(truth * probabilities, axis=-1), 1.0
        sure = ops.clip(sure, TINY, 1.0)
        return ops.mean(-weight * (1.0 - sure) ** self.gamma * ops.log(sure))


@registered
class CategoricalCrossentropyLoss(PixelLoss):
    """Cross-entropy of classes: ``mean( -w_t log p_t )``, t the true class of a pixel.

    One channel: p_t is p where y is 1, else 1 - p, and w is that of background and foreground.

    Parameters
    ----------
    class_weights : sequence of float, optional
        w, one a class; seed 003 takes total pixels over pixels of the class.
    """

    def __init__(
        self,
        class_weights: tuple[float, ...] | None = None,
        name: str = "categorical_crossentropy",
    ) -> None:
        weights = None if class_weights is None else [float(value) for value in class_weights]
        super().__init__(name, class_weights=weights)
        self.class_weights = weights

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean over the pixels."""
        return ops.mean(_crossentropy(truth, probabilities, self.class_weights))


@registered
class BoundaryWeightedLoss(PixelLoss):
    """Cross-entropy that counts pixels near an outline more.

    ``mean( w H )`` with H the binary (one channel) or categorical cross-entropy of a pixel, and w
    ``weight`` where the window of ``2 radius_px + 1`` px around it holds more than one class,
    else 1.

    Parameters
    ----------
    weight : float
        Weight of a pixel near an outline.
    radius_px : int
        How near.
    """

    def __init__(
        self, weight: float = 5.0, radius_px: int = 2, name: str = "boundary_weighted"
    ) -> None:
        super().__init__(name, weight=weight, radius_px=radius_px)
        self.weight, self.radius_px = weight, radius_px

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean over the pixels."""
        weights = boundary_weights(truth, self.weight, self.radius_px)
        return ops.mean(weights * _crossentropy(truth, probabilities, None))


def boundary_weights(truth: Any, weight: float, radius_px: int) -> Any:
    """Weight of each pixel, (N, H, W): ``weight`` near an outline of the truth, else 1."""
    size = 2 * radius_px + 1
    highest = ops.max_pool(truth, size, strides=1, padding="same")
    lowest = -ops.max_pool(-truth, size, strides=1, padding="same")
    near = ops.max(highest - lowest, axis=-1)
    return 1.0 + (weight - 1.0) * near


def _bce(truth: Any, probabilities: Any) -> Any:
    p = ops.clip(probabilities, TINY, 1.0 - TINY)
    return -truth * ops.log(p) - (1.0 - truth) * ops.log(1.0 - p)


def _crossentropy(truth: Any, probabilities: Any, class_weights: list[float] | None) -> Any:
    """``-w_t log p_t`` of each pixel, (N, H, W); one channel is background and foreground."""
    if probabilities.shape[-1] == 1:
        truth = ops.concatenate([1.0 - truth, truth], axis=-1)
        probabilities = ops.concatenate([1.0 - probabilities, probabilities], axis=-1)
    logarithm = ops.log(ops.clip(probabilities, TINY, 1.0))
    if class_weights is not None:
        logarithm = logarithm * ops.convert_to_tensor(class_weights, dtype="float32")
    return -ops.sum(truth * logarithm, axis=-1)
