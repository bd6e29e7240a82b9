"""UNet with BatchNorm, optionally behind a stride-2 stem: the network of the shipped nuclei model.

With the stem the whole UNet works at half resolution, which costs about a third as much a pixel for
the same width; a 2x2 transposed convolution brings the result back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from cellseg.train.families.blocks import conv_bn_relu, head_of, image_input, scaled

if TYPE_CHECKING:
    from cellseg.train.families.params import StemUNetParams

__all__ = ["build"]


def build(params: StemUNetParams, classes: int, input_channels: int, head: str) -> keras.Model:
    """Build the network; see `cellseg.train.families.build_model`.

    References
    ----------
    .. [1] Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015.
    """
    image = image_input(input_channels)
    x = scaled(image, params)  # (N, H, W, 3)
    if params.stem:
        x = conv_bn_relu(x, params.base_filters, 3, "stem", strides=2, use_bias=False)  # H/2, W/2
    skips = []
    for level in range(params.levels):
        x = _double_conv(x, params.base_filters * 2**level, f"down{level}")
        if level < params.levels - 1:
            skips.append(x)
            x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
    for level in reversed(range(params.levels - 1)):
        filters = params.base_filters * 2**level
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same", name=f"up{level}")(x)
        x = layers.Concatenate(name=f"skip{level}")([x, skips[level]])
        x = _double_conv(x, filters, f"dec{level}")
    if params.stem:
        x = layers.Conv2DTranspose(
            params.head_filters, 2, strides=2, padding="same", activation="relu", name="unstem"
        )(x)  # (N, H, W, head)
    return keras.Model(image, head_of(x, classes, head), name="unet")


def _double_conv(x: Any, filters: int, name: str) -> Any:
    x = conv_bn_relu(x, filters, 3, f"{name}a", use_bias=False)
    return conv_bn_relu(x, filters, 3, f"{name}b", use_bias=False)
