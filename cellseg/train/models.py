"""The nuclei recipe's network, and what a network costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

from cellseg.train.families import build_model

if TYPE_CHECKING:
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


def kflop_per_pixel(model: keras.Model, size: int = 256) -> float:
    """Multiply-adds of all convolutions, counted as two operations, per input pixel, in 1000s."""
    stride_of: dict[int, float] = {}
    total = 0.0
    for layer in model.layers:
        incoming = layer.input if isinstance(layer.input, list) else [layer.input]
        before = max((stride_of.get(id(tensor), 1.0) for tensor in incoming), default=1.0)
        after = before * _scale(layer)
        stride_of[id(layer.output)] = after
        if isinstance(layer, layers.Conv2DTranspose):
            total += 2 * layer.kernel.shape[2] * layer.kernel.shape[3] * 4 / before**2
        elif isinstance(layer, layers.Conv2D):
            total += 2 * float(keras.ops.size(layer.kernel)) / after**2
    return total / 1000


def _scale(layer: keras.Layer) -> float:
    if isinstance(layer, layers.Conv2DTranspose):
        return 1 / float(layer.strides[0])
    if isinstance(layer, (layers.Conv2D, layers.MaxPooling2D)):
        return float(layer.strides[0])
    return 1.0
