"""The network of a recipe, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

from cellseg.errors import DataError
from cellseg.train.families import build_model
from cellseg.train.front import with_front

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.train.sections import Recipe


def build_network(recipe: Recipe) -> keras.Model:
    """Build the network that a recipe describes, with random weights.

    Returns
    -------
    keras.Model
        RGB (N, H, W, 3), 0..255, to probabilities. For instances: softmax over background,
        interior, border, and if asked for a sigmoid channel of distance. For classes: one sigmoid
        channel where there are two, else softmax.
    """
    params = recipe.model.model_dump(exclude={"family"})
    family = recipe.model.family
    if recipe.target.kind == "instances":
        head = "softmax+distance" if recipe.target.distance else "softmax"
        body = build_model(family, params, 3, head=head)
    else:
        count = len(recipe.class_list)
        body = build_model(family, params, 1 if count == 2 else count)
    return with_front(body, recipe.input)


def load_network(path: Path, compiled: bool = False) -> keras.Model:
    """Load a saved network of any family.

    Raises
    ------
    DataError
        If there is no such file, or it is no Keras 3 model.
    """
    # Layers of our own have to be registered first.
    from cellseg.train.families import swin_unet  # noqa: F401

    try:
        return keras.saving.load_model(path, compile=compiled)
    except (ValueError, TypeError, OSError) as error:
        raise DataError(f"a model must be a Keras 3 file. Received: {path}: {error}.") from error


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
