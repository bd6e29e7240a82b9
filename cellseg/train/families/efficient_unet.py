"""EfficientUNet: an EfficientNet halves five times, a residual decoder brings the result back.

Skips, as the seeds take them, and the decoder (F = ``decoder_filters``)::

    stride 32  block7a_project_bn
    16  x 2, concat block5c_drop        residual(F[0])      residual(f): conv3 BN relu conv3 BN relu
     8  x 2, concat block3b_drop        residual(F[1])                   + conv1 of its input
     4  x 2, concat block2b_drop        residual(F[2])
     2  x 2, concat block1a_project_bn  residual(F[3])
     1  x 2, concat image               residual(F[4])      head

Its squeeze-and-excitation blocks average the whole tile, so that tiles are not exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from cellseg.train.families.backbones import backbone
from cellseg.train.families.blocks import conv_bn_relu, head_of, image_input

if TYPE_CHECKING:
    from cellseg.train.families.params import EfficientUNetParams

__all__ = ["build"]

_SKIPS = ("block5c_drop", "block3b_drop", "block2b_drop", "block1a_project_bn")
_BRIDGE = "block7a_project_bn"


def build(params: EfficientUNetParams, classes: int, input_channels: int, head: str) -> keras.Model:
    """Build the network; see `cellseg.train.families.build_model`.

    References
    ----------
    .. [1] Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
       ICML 2019.
    .. [2] Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015.
    """
    image = image_input(input_channels)
    make = getattr(keras.applications, f"EfficientNet{params.backbone}")
    encoder = backbone(make, params.weights, image)
    skips = [encoder.get_layer(name).output for name in _SKIPS]
    # The image is 0..255, the maps beside it of order 1.
    skips.append(layers.Rescaling(1 / 255, name="image_skip")(image))
    x = encoder.get_layer(_BRIDGE).output
    for index, (skip, filters) in enumerate(zip(skips, params.decoder_filters, strict=True)):
        x = layers.UpSampling2D(2, name=f"up{index}")(x)
        x = layers.Concatenate(name=f"skip{index}")([x, skip])
        x = _residual(x, filters, f"dec{index}")
    return keras.Model(image, head_of(x, classes, head), name="efficient_unet")


def _residual(x: Any, filters: int, name: str) -> Any:
    shortcut = layers.Conv2D(filters, 1, name=f"{name}_short")(x)
    x = conv_bn_relu(x, filters, 3, f"{name}a", use_bias=False)
    x = conv_bn_relu(x, filters, 3, f"{name}b", use_bias=False)
    return layers.Add(name=f"{name}_add")([x, shortcut])
