"""The seeds' "slightly flexible UNet", to the layer; with softmax it is their FlexUNet.

Level i = 0..L-1, the last one the bridge; f filters, k kernel, d dilation::

    down i   conv(f, k, d) act [norm] dropout(rate * i) conv(f, k, d) act [norm] -> skip -> pool 2
    up i     transposed conv(f, 2x2, stride 2), concat [up, skip], then the same as down i
    head     conv 1x1

    f = base_filters * 2**i     k = max(3, base_kernel - 2 i)     d = max(1, dilation - i)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from cellseg.train.families.blocks import activated, head_of, image_input, normalized, scaled

if TYPE_CHECKING:
    from cellseg.train.families.params import UNetParams

__all__ = ["build"]


def build(params: UNetParams, classes: int, input_channels: int, head: str) -> keras.Model:
    """Build the network; see `cellseg.train.families.build_model`.

    References
    ----------
    .. [1] Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015.
    """
    image = image_input(input_channels)
    x, skips = scaled(image, params), []
    for level in range(params.levels):
        x = _double_conv(x, params, level, f"down{level}")
        if level < params.levels - 1:
            skips.append(x)
            x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
    for level in reversed(range(params.levels - 1)):
        x = layers.Conv2DTranspose(
            params.base_filters * 2**level, 2, strides=2, padding="same", name=f"up{level}"
        )(x)
        if params.up_activation:
            x = activated(x, params.activation, f"up{level}_act", params.negative_slope)
        x = layers.Concatenate(name=f"skip{level}")([x, skips[level]])
        x = _double_conv(x, params, level, f"dec{level}")
    return keras.Model(image, head_of(x, classes, head), name="unet")


def _double_conv(x: Any, params: UNetParams, level: int, name: str) -> Any:
    x = _conv(x, params, level, f"{name}a")
    if params.dropout_rate * level > 0:
        x = layers.Dropout(params.dropout_rate * level, name=f"{name}_drop")(x)
    return _conv(x, params, level, f"{name}b")


def _conv(x: Any, params: UNetParams, level: int, name: str) -> Any:
    x = layers.Conv2D(
        params.base_filters * 2**level,
        max(3, params.base_kernel - 2 * level),
        padding="same",
        dilation_rate=max(1, params.dilation - level),
        kernel_initializer=params.initializer,
        name=f"{name}_conv",
    )(x)
    x = activated(x, params.activation, f"{name}_act", params.negative_slope)
    return normalized(x, params.normalization, f"{name}_norm")
