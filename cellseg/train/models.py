"""The nuclei recipe's network, and what a network costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.train.families import build_model
from cellseg.train.families.summary import macs

if TYPE_CHECKING:
    import keras

    from cellseg.train.families import Head
    from cellseg.train.recipe import ModelRecipe

CLASS_CHANNELS = 3


def build_unet(recipe: ModelRecipe, distance: bool = False) -> keras.Model:
    """Build the network of an interior/border recipe: softmax over three classes.

    Parameters
    ----------
    recipe : ModelRecipe
        Width, depth, stem.
    distance : bool
        Add the distance channel.
    """
    chosen = recipe.model_dump(exclude={"family"})
    head: Head = "softmax+distance" if distance else "softmax"
    return build_model("stem-unet", chosen, CLASS_CHANNELS, head=head)


def network_stride(recipe: ModelRecipe) -> int:
    """Total stride: heights, widths and tile origins must be multiples of it."""
    return int(2 ** (recipe.levels - 1 + recipe.stem))


def kflop_per_pixel(model: keras.Model, size: int = 1024) -> float:
    """Multiply-adds, counted as two operations, per input pixel, in 1000s."""
    return 2 * macs(model, size, size) / size**2 / 1000
