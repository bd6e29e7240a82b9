"""Means of other losses: what each pixel says, and how much regions share."""

from __future__ import annotations

from typing import Any

from cellseg.train.losses.entropy import BceLoss, CategoricalCrossentropyLoss
from cellseg.train.losses.overlap import DiceLoss, IouLoss
from cellseg.train.losses.pixel import PixelLoss, registered
from cellseg.train.losses.structure import SsimLoss

__all__ = ["BceDiceLoss", "BceIouLoss", "BceSsimIouLoss", "CrossentropyDiceLoss"]


class _MeanLoss(PixelLoss):
    """Mean of several losses."""

    def __init__(self, parts: tuple[PixelLoss, ...], name: str, **settings: Any) -> None:
        super().__init__(name, **settings)
        self._parts = parts

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean of the parts."""
        return sum(part.of(truth, probabilities) for part in self._parts) / len(self._parts)


@registered
class BceDiceLoss(_MeanLoss):
    """``(BCE + Dice) / 2``, the seeds' ``bce_dice_loss``.

    Parameters
    ----------
    smooth : float
        See `DiceLoss`.
    """

    def __init__(self, smooth: float = 1.0, name: str = "bce_dice") -> None:
        super().__init__((BceLoss(), DiceLoss(smooth)), name, smooth=smooth)


@registered
class BceIouLoss(_MeanLoss):
    """``(BCE + IoU) / 2``, the seeds' ``bce_iou_loss``.

    Parameters
    ----------
    smooth : float
        See `IouLoss`.
    """

    def __init__(self, smooth: float = 1.0, name: str = "bce_iou") -> None:
        super().__init__((BceLoss(), IouLoss(smooth)), name, smooth=smooth)


@registered
class BceSsimIouLoss(_MeanLoss):
    """``(BCE + SSIM + IoU) / 3``, the seeds' ``basnet_hybrid_loss``.

    Parameters
    ----------
    smooth : float
        See `IouLoss`.

    References
    ----------
    .. [1] Qin et al., "BASNet: Boundary-Aware Salient Object Detection", CVPR 2019.
    """

    def __init__(self, smooth: float = 1.0, name: str = "bce_ssim_iou") -> None:
        super().__init__((BceLoss(), SsimLoss(), IouLoss(smooth)), name, smooth=smooth)


@registered
class CrossentropyDiceLoss(_MeanLoss):
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
        parts = (CategoricalCrossentropyLoss(class_weights), DiceLoss(smooth, skip_background))
        settings = {"smooth": smooth, "skip_background": skip_background}
        super().__init__(parts, name, class_weights=class_weights, **settings)
