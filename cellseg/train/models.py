"""The networks, in Keras 3 and backend-neutral, top to bottom with shapes in comments.

Input: RGB (N, H, W, 3), values 0..255, H and W multiples of ``network_stride``.
Output: (N, H, W, C): softmax over background, interior, border, then, if asked, one sigmoid
channel with the distance to the border; or softmax over the classes of a model that tells classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

if TYPE_CHECKING:
    from cellseg.train.recipe import ModelRecipe

CLASS_CHANNELS = 3


def build_unet(
    recipe: ModelRecipe, distance: bool = False, classes: int = CLASS_CHANNELS
) -> keras.Model:
    """UNet with BatchNorm, optionally behind a stride-2 stem.

    With the stem the whole UNet works at half resolution, which costs about a third as much a
    pixel for the same width; a 2x2 transposed convolution brings the result back.

    Parameters
    ----------
    recipe : ModelRecipe
        Width, depth, stem.
    distance : bool
        Add the distance channel.
    classes : int
        Channels that exclude each other, background included.

    References
    ----------
    .. [1] Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015.
    """
    image = layers.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 255, name="scale")(image)  # (N, H, W, 3) 0..1
    if recipe.stem:
        x = _conv(x, recipe.base_filters, "stem", strides=2)  # (N, H/2, W/2, F)
    skips = []
    for level in range(recipe.levels):
        x = _double_conv(x, recipe.base_filters * 2**level, f"down{level}")
        if level < recipe.levels - 1:
            skips.append(x)
            x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
    for level in reversed(range(recipe.levels - 1)):
        filters = recipe.base_filters * 2**level
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same", name=f"up{level}")(x)
        x = layers.Concatenate(name=f"skip{level}")([x, skips[level]])
        x = _double_conv(x, filters, f"dec{level}")
    if recipe.stem:
        x = layers.Conv2DTranspose(
            recipe.head_filters, 2, strides=2, padding="same", activation="relu", name="unstem"
        )(x)  # (N, H, W, head)
    return keras.Model(image, _head(x, distance, classes), name="unet")


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


def _conv(x: keras.KerasTensor, filters: int, name: str, strides: int = 1) -> keras.KerasTensor:
    x = layers.Conv2D(
        filters,
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(momentum=0.98, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _double_conv(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    return _conv(_conv(x, filters, f"{name}a"), filters, f"{name}b")


def _head(x: keras.KerasTensor, distance: bool, classes: int) -> keras.KerasTensor:
    chances = layers.Conv2D(classes, 1, activation="softmax", name="classes")(x)
    if not distance:
        return chances
    depth = layers.Conv2D(1, 1, activation="sigmoid", name="distance")(x)
    return layers.Concatenate(name="probabilities")([chances, depth])
