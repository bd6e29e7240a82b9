"""Losses of pixels, in ``keras.ops``: for one sigmoid channel as well as for classes.

Every loss takes the truth in one of two forms, and probabilities p (N, H, W, C)::

    y (N, H, W, C)   0 or 1 for each channel
    y (N, H, W[, 1]) index of the class, where C > 1

Sums run over the whole batch, as in the seeds: taken image by image, one with a few foreground
pixels or none outweighs all others. Losses of regions (Dice, IoU, Tversky) are means over the
classes; where a background class would drown the others, ``skip_background`` leaves it out.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = [
    "BceDiceLoss",
    "BceIouLoss",
    "BceLoss",
    "BoundaryWeightedLoss",
    "CategoricalCrossentropyLoss",
    "CrossentropyDiceLoss",
    "DiceLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "IouLoss",
    "PixelLoss",
    "TverskyLoss",
    "boundary_weights",
    "dense_truth",
]

TINY = 1e-7


def _registered(loss: type) -> type:
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


@_registered
class BceLoss(PixelLoss):
    """Binary cross-entropy: ``mean( -y log p - (1 - y) log(1 - p) )``."""

    def __init__(self, name: str = "bce") -> None:
        super().__init__(name)

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean over pixels and channels."""
        return ops.mean(_bce(truth, probabilities))


@_registered
class DiceLoss(PixelLoss):
    """Soft Dice: ``mean_c( 1 - (2 sum y p + s) / (sum y + sum p + s) )``.

    Parameters
    ----------
    smooth : float
        s; 1 as in the seeds.
    skip_background : bool
        Leave channel 0 out, where there are several.
    """

    def __init__(
        self, smooth: float = 1.0, skip_background: bool = False, name: str = "dice"
    ) -> None:
        super().__init__(name, smooth=smooth, skip_background=skip_background)
        self.smooth, self.skip_background = smooth, skip_background

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean over the classes."""
        shared, true, found = _sums(truth, probabilities, self.skip_background)
        return ops.mean(1.0 - (2.0 * shared + self.smooth) / (true + found + self.smooth))


@_registered
class IouLoss(PixelLoss):
    """Soft IoU (Jaccard): ``mean_c( 1 - (sum y p + s) / (sum (y + p - y p) + s) )``.

    Parameters
    ----------
    smooth : float
        s. The seeds have none, and divide 0 by 0 where a batch is empty.
    skip_background : bool
        Leave channel 0 out, where there are several.
    """

    def __init__(
        self, smooth: float = 1.0, skip_background: bool = False, name: str = "iou"
    ) -> None:
        super().__init__(name, smooth=smooth, skip_background=skip_background)
        self.smooth, self.skip_background = smooth, skip_background

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean over the classes."""
        shared, true, found = _sums(truth, probabilities, self.skip_background)
        return ops.mean(1.0 - (shared + self.smooth) / (true + found - shared + self.smooth))


@_registered
class BceDiceLoss(PixelLoss):
    """``(BCE + Dice) / 2``, the seeds' ``bce_dice_loss``.

    Parameters
    ----------
    smooth : float
        See `DiceLoss`.
    """

    def __init__(self, smooth: float = 1.0, name: str = "bce_dice") -> None:
        super().__init__(name, smooth=smooth)
        self._dice = DiceLoss(smooth)

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean of the two."""
        bce = ops.mean(_bce(truth, probabilities))
        return (bce + self._dice.of(truth, probabilities)) / 2.0


@_registered
class BceIouLoss(PixelLoss):
    """``(BCE + IoU) / 2``, the seeds' ``bce_iou_loss``.

    Parameters
    ----------
    smooth : float
        See `IouLoss`.
    """

    def __init__(self, smooth: float = 1.0, name: str = "bce_iou") -> None:
        super().__init__(name, smooth=smooth)
        self._iou = IouLoss(smooth)

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean of the two."""
        bce = ops.mean(_bce(truth, probabilities))
        return (bce + self._iou.of(truth, probabilities)) / 2.0


@_registered
class TverskyLoss(PixelLoss):
    """Tversky: Dice whose misses and false alarms count unlike each other.

    With TP = sum y p, FP = sum (1 - y) p, FN = sum y (1 - p)::

        mean_c( 1 - (TP + s) / (TP + alpha FP + beta FN + s) )

    alpha = beta = 1/2 is Dice, alpha = beta = 1 is IoU.

    Parameters
    ----------
    alpha, beta : float
        Weight of false positives and false negatives.
    smooth : float
        s.
    skip_background : bool
        Leave channel 0 out, where there are several.

    References
    ----------
    .. [1] Salehi, Erdogmus, Gholipour, "Tversky loss function", MLMI 2017.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 1.0,
        skip_background: bool = False,
        name: str = "tversky",
    ) -> None:
        super().__init__(
            name, alpha=alpha, beta=beta, smooth=smooth, skip_background=skip_background
        )
        self.alpha, self.beta, self.smooth = alpha, beta, smooth
        self.skip_background = skip_background

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean over the classes."""
        return ops.mean(1.0 - self.index(truth, probabilities))

    def index(self, truth: Any, probabilities: Any) -> Any:
        """Tversky index of each class, shape (C,)."""
        shared, true, found = _sums(truth, probabilities, self.skip_background)
        wrong = self.alpha * (found - shared) + self.beta * (true - shared)
        return (shared + self.smooth) / (shared + wrong + self.smooth)


@_registered
class FocalTverskyLoss(PixelLoss):
    """``mean_c( (1 - Tversky index) ** gamma )``: gamma below 1 keeps hard classes in view.

    Parameters
    ----------
    alpha, beta, smooth, skip_background
        See `TverskyLoss`.
    gamma : float
        Exponent; 0.75 as in the paper.

    References
    ----------
    .. [1] Abraham and Khan, "A novel focal Tversky loss", ISBI 2019.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        smooth: float = 1.0,
        skip_background: bool = False,
        name: str = "focal_tversky",
    ) -> None:
        shared: dict[str, Any] = {"alpha": alpha, "beta": beta, "smooth": smooth}
        shared["skip_background"] = skip_background
        super().__init__(name, gamma=gamma, **shared)
        self.gamma, self._tversky = gamma, TverskyLoss(**shared)

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean over the classes."""
        # A power below 1 has no slope at 0: a class that is right would make NaN.
        missing = ops.maximum(1.0 - self._tversky.index(truth, probabilities), TINY)
        return ops.mean(missing**self.gamma)


@_registered
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


@_registered
class CategoricalCrossentropyLoss(PixelLoss):
    """Cross-entropy of classes: ``mean( -w_t log p_t )``, t the true class of a pixel.

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


@_registered
class CrossentropyDiceLoss(PixelLoss):
    """``(cross-entropy + Dice) / 2`` of classes.

    Parameters
    ----------
    class_weights : sequence of float, optional
        See `CategoricalCrossentropyLoss`.
    smooth, skip_background
        See `DiceLoss`.
    """

    def __init__(
        self,
        class_weights: tuple[float, ...] | None = None,
        smooth: float = 1.0,
        skip_background: bool = False,
        name: str = "crossentropy_dice",
    ) -> None:
        super().__init__(
            name, class_weights=class_weights, smooth=smooth, skip_background=skip_background
        )
        self._entropy = CategoricalCrossentropyLoss(class_weights)
        self._dice = DiceLoss(smooth, skip_background)

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean of the two."""
        entropy = self._entropy.of(truth, probabilities)
        return (entropy + self._dice.of(truth, probabilities)) / 2.0


@_registered
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
        if probabilities.shape[-1] == 1:
            return ops.mean(weights * _bce(truth, probabilities)[..., 0])
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
    logarithm = ops.log(ops.clip(probabilities, TINY, 1.0))
    if class_weights is not None:
        logarithm = logarithm * ops.convert_to_tensor(class_weights, dtype="float32")
    return -ops.sum(truth * logarithm, axis=-1)


def _sums(truth: Any, probabilities: Any, skip_background: bool) -> tuple[Any, Any, Any]:
    """Sum y p, y and p over the batch; each of shape (C,)."""
    if skip_background and probabilities.shape[-1] > 1:
        truth, probabilities = truth[..., 1:], probabilities[..., 1:]
    axes = (0, 1, 2)
    return (
        ops.sum(truth * probabilities, axis=axes),
        ops.sum(truth, axis=axes),
        ops.sum(probabilities, axis=axes),
    )
