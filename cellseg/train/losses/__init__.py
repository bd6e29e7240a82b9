"""Losses by what they compare: pixels (`entropy`), regions (`overlap`), windows (`structure`).

Recipes name them as `cellseg.train.objectives` lists them. To import this package registers all of
them with Keras, so that a run that was stopped loads with its loss.
"""

from cellseg.train.losses.entropy import (
    BceLoss,
    BoundaryWeightedLoss,
    CategoricalCrossentropyLoss,
    FocalLoss,
)
from cellseg.train.losses.interior_border import InteriorBorderLoss
from cellseg.train.losses.mixed import (
    BceDiceLoss,
    BceIouLoss,
    BceSsimIouLoss,
    CrossentropyDiceLoss,
)
from cellseg.train.losses.overlap import DiceLoss, FocalTverskyLoss, IouLoss, TverskyLoss
from cellseg.train.losses.structure import SsimLoss

__all__ = [
    "BceDiceLoss",
    "BceIouLoss",
    "BceLoss",
    "BceSsimIouLoss",
    "BoundaryWeightedLoss",
    "CategoricalCrossentropyLoss",
    "CrossentropyDiceLoss",
    "DiceLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "InteriorBorderLoss",
    "IouLoss",
    "SsimLoss",
    "TverskyLoss",
]
