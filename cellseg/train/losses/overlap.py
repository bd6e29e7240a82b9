"""Losses of regions, by how much truth and prediction share: Dice, IoU, Tversky.

Sums run over the whole batch, as in the seeds: taken image by image, one with a few foreground
pixels or none outweighs all others. Losses are means over the classes; where a background class
would drown the others, ``skip_background`` leaves it out.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from cellseg.train.losses.pixel import TINY, PixelLoss, registered

__all__ = ["DiceLoss", "FocalTverskyLoss", "IouLoss", "TverskyLoss"]


@registered
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


@registered
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


@registered
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


@registered
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
