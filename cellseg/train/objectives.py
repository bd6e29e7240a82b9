"""Losses and metrics by the names that recipes use; the seeds' names lead to the same ones.

The tables are read without Keras, so that a recipe is checked without it.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from cellseg.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import keras

__all__ = [
    "LOSSES",
    "METRICS",
    "SEED_LOSSES",
    "SEED_METRICS",
    "loss_class",
    "loss_name",
    "make_loss",
    "make_metric",
    "metric_name",
]

LOSSES: dict[str, str] = {
    "bce": "BceLoss",
    "dice": "DiceLoss",
    "bce_dice": "BceDiceLoss",
    "iou": "IouLoss",
    "bce_iou": "BceIouLoss",
    "ssim": "SsimLoss",
    "bce_ssim_iou": "BceSsimIouLoss",
    "tversky": "TverskyLoss",
    "focal_tversky": "FocalTverskyLoss",
    "focal": "FocalLoss",
    "categorical_crossentropy": "CategoricalCrossentropyLoss",
    "crossentropy_dice": "CrossentropyDiceLoss",
    "boundary_weighted": "BoundaryWeightedLoss",
    "interior_border": "InteriorBorderLoss",
}
"""Name of a loss to its class in `cellseg.train.losses`, whose docstring has the formula."""

SEED_LOSSES = {
    "binary_crossentropy": "bce",
    "dice_loss": "dice",
    "dice_loss_multiclass": "dice",
    "bce_dice_loss": "bce_dice",
    "iou_loss": "iou",
    "jaccard": "iou",
    "jaccard_loss": "iou",
    "bce_iou_loss": "bce_iou",
    "ssim_loss": "ssim",
    "basnet_hybrid_loss": "bce_ssim_iou",
    "weighted_categorical_crossentropy": "categorical_crossentropy",
}
"""Other names of the same losses."""

METRICS: dict[str, tuple[str, str]] = {
    "dice": ("ImageScore", "dice"),
    "iou": ("ImageScore", "iou"),
    "precision": ("ImageScore", "precision"),
    "recall": ("ImageScore", "recall"),
    "pixel_accuracy": ("pixel_accuracy", ""),
    "binary_accuracy": ("binary_accuracy", ""),
    "dice_coef": ("dice_coef", ""),
    "iou_coef": ("iou_coef", ""),
    "sensitivity": ("sensitivity", ""),
    "specificity": ("specificity", ""),
}
"""Name of a metric to class or function, and which score of it."""

SEED_METRICS = {
    "accuracy": "pixel_accuracy",
    "acc": "pixel_accuracy",
    "categorical_accuracy": "pixel_accuracy",
    "dice_coef_multiclass": "dice_coef",
    "jacard_similarity": "iou_coef",
    "jaccard_similarity": "iou_coef",
}
"""Other names of the same metrics."""


def loss_name(name: str) -> str:
    """Return the key of `LOSSES` that a name means.

    Raises
    ------
    RecipeError
        If there is none; the nearest name is given.

    Examples
    --------
    >>> loss_name("bce_dice_loss")
    'bce_dice'
    """
    return _known("loss", name, LOSSES, SEED_LOSSES)


def metric_name(name: str) -> str:
    """Return the key of `METRICS` that a name means; a leading ``val_`` is left out.

    Raises
    ------
    RecipeError
        If there is none; the nearest name is given.
    """
    return _known("metric", name.removeprefix("val_"), METRICS, SEED_METRICS)


def make_loss(name: str, **options: Any) -> keras.losses.Loss:
    """Make a loss by name.

    Parameters
    ----------
    name : str
        Key of `LOSSES`, or a seed's name for it.
    **options
        Its constructor's arguments, e.g. ``gamma`` or ``class_weights``.

    Raises
    ------
    RecipeError
        If the name, or an option, is unknown.
    """
    try:
        return loss_class(name)(**options)
    except TypeError as error:
        raise RecipeError(f"loss '{name}' takes other options. Received: {error}.") from error


def loss_class(name: str) -> type[keras.losses.Loss]:
    """Return the class of a loss by name; its docstring holds the formula.

    Raises
    ------
    RecipeError
        If there is none of that name.
    """
    kind = LOSSES[loss_name(name)]
    from cellseg.train import losses

    return getattr(losses, kind)


def make_metric(name: str) -> Any:
    """Make what ``keras.Model.compile`` takes as a metric, by name.

    Raises
    ------
    RecipeError
        If there is none of that name; the nearest one is given.
    """
    from cellseg.train import fit_metrics

    maker, kind = METRICS[metric_name(name)]
    found = getattr(fit_metrics, maker)
    return found(kind) if kind else found


def _known(noun: str, name: str, table: Mapping[str, Any], others: Mapping[str, str]) -> str:
    if name in table:
        return name
    if name in others:
        return others[name]
    near = difflib.get_close_matches(name, [*table, *others], n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else None
    raise RecipeError(
        f"{noun} must be one of {', '.join(table)}. Received: {noun}={name!r}.", hint=hint
    )
