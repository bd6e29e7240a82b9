"""Fixed layers at the front of a network: gamma, sharpening, colour space; in every exported file.

The seeds do all three when they infer, in this order, but not when they train or evaluate. As fixed
layers they happen wherever the network runs. The matrices are OpenCV's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers

from cellseg.layers.colors import FORMULAS, ColorSpace, GammaCurve

if TYPE_CHECKING:
    from cellseg.train.sections import InputRecipe

__all__ = ["COLOR_SPACES", "with_front"]

_GRAY = (0.299, 0.587, 0.114)
COLOR_SPACES: dict[str, tuple[tuple[tuple[float, float, float], ...], tuple[float, ...]]] = {
    "bgr": (((0, 0, 1), (0, 1, 0), (1, 0, 0)), (0, 0, 0)),
    "gray": ((_GRAY, _GRAY, _GRAY), (0, 0, 0)),
    "xyz": (
        (
            (0.412453, 0.357580, 0.180423),
            (0.212671, 0.715160, 0.072169),
            (0.019334, 0.119193, 0.950227),
        ),
        (0, 0, 0),
    ),
    "ycrcb": (
        (_GRAY, (0.499813, -0.418531, -0.081282), (-0.168636, -0.331068, 0.499704)),
        (0, 128, 128),
    ),
    "yuv": (
        (_GRAY, (-0.147108, -0.288804, 0.435912), (0.614777, -0.514799, -0.099978)),
        (0, 128, 128),
    ),
}
"""Rows of the matrix that takes RGB to each colour space, and what is added."""


def with_front(body: keras.Model, recipe: InputRecipe) -> keras.Model:
    """Put the fixed layers that a recipe asks for before a network; none, and it is returned.

    Parameters
    ----------
    body : keras.Model
        Functional, one image (N, H, W, 3) of 0..255 in.
    recipe : InputRecipe
        Gamma, sharpening and colour space.
    """
    if recipe.color == "rgb" and recipe.sharpen == 0 and recipe.gamma == 1:
        return body
    image = layers.Input(body.inputs[0].shape[1:], name="image")
    x = image
    if recipe.gamma != 1:  # in full precision whatever the policy, as the colours below
        x = GammaCurve(recipe.gamma, dtype="float32", name="gamma")(x)
    if recipe.sharpen > 0:
        sharp = layers.DepthwiseConv2D(
            3, padding="same", use_bias=False, trainable=False, name="sharpen"
        )
        x = _fixed(sharp, x)
    if recipe.color in FORMULAS:
        x = ColorSpace(recipe.color, dtype="float32", name="color")(x)
    elif recipe.color != "rgb":
        x = _fixed(layers.Conv2D(3, 1, trainable=False, name="color"), x)
    plain = keras.Model(image, _run_again(body, x), name=body.name)
    # Anew from its configuration: each layer then has one place in one graph.
    model = keras.Model.from_config(plain.get_config())
    model.set_weights(plain.get_weights())
    _set_weights(model, recipe)
    return model


def _fixed(layer: Any, x: Any) -> Any:
    """Apply a layer of fixed weights, cut to 0..255 as 8-bit images are."""
    return layers.ReLU(max_value=255.0, name=f"{layer.name}_range")(layer(x))


def _set_weights(model: keras.Model, recipe: InputRecipe) -> None:
    if recipe.color in COLOR_SPACES:
        rows, offset = COLOR_SPACES[recipe.color]
        kernel = np.array(rows, np.float32).T[None, None]
        model.get_layer("color").set_weights([kernel, np.array(offset, np.float32)])
    if recipe.sharpen > 0:
        kernel = np.full((3, 3, 3, 1), -recipe.sharpen, np.float32)
        kernel[1, 1] = 1 + 8 * recipe.sharpen
        model.get_layer("sharpen").set_weights([kernel])


def _run_again(model: keras.Model, x: Any) -> Any:
    """Apply a functional model's layers to another input, one by one."""
    known = {id(model.inputs[0]): x}
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        is_list = isinstance(layer.input, list)
        inputs = [known[id(tensor)] for tensor in (layer.input if is_list else [layer.input])]
        known[id(layer.output)] = layer(inputs if is_list else inputs[0])
    return known[id(model.outputs[0])]
