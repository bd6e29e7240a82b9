"""Losses by the names that recipes use; the seeds' names lead to the same ones.

The tables are read without Keras, so that a recipe is checked without it.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from cellseg.errors import RecipeError

if TYPE_CHECKING:
    import keras

__all__ = [
    "LOSSES",
    "SEED_LOSSES",
    "loss_class",
    "loss_name",
    "make_loss",
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
    if name in LOSSES:
        return name
    if name in SEED_LOSSES:
        return SEED_LOSSES[name]
    near = difflib.get_close_matches(name, [*LOSSES, *SEED_LOSSES], n=1, cutoff=0.4)
    raise RecipeError(
        f"loss must be one of {', '.join(LOSSES)}. Received: loss={name!r}.",
        hint=f"did you mean '{near[0]}'?" if near else None,
    )


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
