"""The sections of a training recipe: every key with its type, bounds, default, unit and meaning.

Read without Keras, so that recipes are checked, converted and documented quickly.
"""

from cellseg.train.sections.augment import AugmentRecipe
from cellseg.train.sections.data import (
    ClassRecipe,
    FolderPair,
    InputRecipe,
    MaskRecipe,
    NormalizeRecipe,
    SourceRecipe,
)
from cellseg.train.sections.learn import FitRecipe, LossRecipe, TargetRecipe, WatchRecipe
from cellseg.train.sections.model import DEFAULT_FAMILY, FAMILY_MODELS, ModelRecipe
from cellseg.train.sections.recipe import Recipe
from cellseg.train.sections.use import BundleRecipe, InferRecipe

__all__ = [
    "DEFAULT_FAMILY",
    "FAMILY_MODELS",
    "AugmentRecipe",
    "BundleRecipe",
    "ClassRecipe",
    "FitRecipe",
    "FolderPair",
    "InferRecipe",
    "InputRecipe",
    "LossRecipe",
    "MaskRecipe",
    "ModelRecipe",
    "NormalizeRecipe",
    "Recipe",
    "SourceRecipe",
    "TargetRecipe",
    "WatchRecipe",
]
