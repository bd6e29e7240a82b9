"""LiteUNet: a UNet whose encoder is an EfficientNet-Lite, which may have seen ImageNet.

For sets with a dozen labelled images: what edges, textures and round things look like is known
before the first step. Every layer is local, so that tiles are exact, and ReLU6 fits int8::

    2**levels  the encoder's last
    ...        transposed conv x 2, concat the encoder's, 2 x (conv3 BN relu)    decoder_filters
    stride 2   the same
    1          transposed conv x 2, relu                                         head_filters
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

from cellseg.train.families.blocks import conv_bn_relu, head_of, image_input, scaled
from cellseg.train.families.lite_encoder import encode, take_weights

if TYPE_CHECKING:
    from cellseg.train.families.params import LiteUNetParams

__all__ = ["build"]


def build(params: LiteUNetParams, classes: int, input_channels: int, head: str) -> keras.Model:
    """Build the network; see `cellseg.train.families.build_model`.

    References
    ----------
    .. [1] Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
       ICML 2019.
    .. [2] Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015.
    """
    image = image_input(input_channels)
    *skips, x = encode(scaled(image, params), params.backbone, params.levels)
    for level, skip in reversed(list(enumerate(skips))):
        filters = params.decoder_filters[level]
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same", name=f"up{level}")(x)
        x = layers.Concatenate(name=f"skip{level}")([x, skip])
        x = conv_bn_relu(x, filters, 3, f"dec{level}a", use_bias=False)
        x = conv_bn_relu(x, filters, 3, f"dec{level}b", use_bias=False)
    x = layers.Conv2DTranspose(
        params.head_filters, 2, strides=2, padding="same", activation="relu", name="unstem"
    )(x)  # (N, H, W, head)
    model = keras.Model(image, head_of(x, classes, head), name="lite_unet")
    take_weights(model, params.weights, params.backbone)
    return model
