"""UNet 3+: every level of the decoder sees every scale.

Level i = 0..L-1; decoder level i joins one map of each scale j, each brought to ``base_filters``::

    j < i    encoder j, max-pooled by 2**(i - j)
    j = i    encoder i
    j > i    decoder j (at the bottom: the encoder), bilinear x 2**(j - i)

    concat -> conv3(L * base_filters) BN relu
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from cellseg.train.families.blocks import conv_bn_relu, head_of, image_input, scaled

if TYPE_CHECKING:
    from cellseg.train.families.params import UNet3PlusParams

__all__ = ["build"]


def build(params: UNet3PlusParams, classes: int, input_channels: int, head: str) -> keras.Model:
    """Build the network; see `cellseg.train.families.build_model`.

    References
    ----------
    .. [1] Huang et al., "UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation",
       ICASSP 2020.
    """
    image = image_input(input_channels)
    x, encoded = scaled(image, params), []
    for level in range(params.levels):
        x = layers.MaxPooling2D(2, name=f"pool{level - 1}")(x) if level else x
        x = _level(x, params, level)
        encoded.append(x)
    decoded = {params.levels - 1: x}
    for level in reversed(range(params.levels - 1)):
        decoded[level] = _joined(encoded, decoded, params, level)
    return keras.Model(image, head_of(decoded[0], classes, head, kernel=3), name="unet3plus")


def _level(x: Any, params: UNet3PlusParams, level: int) -> Any:
    for index in range(params.convolutions):
        rate, name = params.dropout_rate * index, f"down{level}_{index}"
        x = layers.Dropout(rate, name=f"{name}_drop")(x) if rate > 0 else x
        x = _conv(x, params.base_filters * 2**level, params, name)
    return x


def _joined(
    encoded: list[Any], decoded: dict[int, Any], params: UNet3PlusParams, level: int
) -> Any:
    parts = []
    for scale in range(params.levels):
        name, source = f"dec{level}_from{scale}", decoded.get(scale, encoded[scale])
        if scale < level:
            source = encoded[scale]
            source = layers.MaxPooling2D(2 ** (level - scale), name=f"{name}_pool")(source)
        elif scale > level:
            source = layers.UpSampling2D(
                2 ** (scale - level), interpolation="bilinear", name=f"{name}_up"
            )(source)
        parts.append(_conv(source, params.base_filters, params, name))
    x = layers.Concatenate(name=f"dec{level}_join")(parts)
    return _conv(x, params.levels * params.base_filters, params, f"dec{level}")


def _conv(x: Any, filters: int, params: UNet3PlusParams, name: str) -> Any:
    penalty = keras.regularizers.L2(params.weight_decay) if params.weight_decay else None
    return conv_bn_relu(x, filters, 3, name, kernel_regularizer=penalty)
