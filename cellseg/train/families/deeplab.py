r"""DeepLabV3+: a ResNet to stride 16, a pyramid of dilated convolutions, a short decoder.

::

    image -> ResNet -> conv4 (stride 16) -> pyramid: conv1, conv3 at each rate, mean of the tile
                  \\-> conv2 (stride 4)   -> 1x1 project -> bilinear x 4 ---\\
                              \\---------> conv1(48) ---------- concat -> conv3 conv3 -> x 4 -> head

The mean of the tile is added to the projection of the other branches, which is the same as to
repeat it over the map, join it to them and project the whole. It makes tiles inexact;
``image_pooling = false`` leaves it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from cellseg.train.families.backbones import backbone
from cellseg.train.families.blocks import conv_bn_relu, head_of, image_input, scaled

if TYPE_CHECKING:
    from cellseg.train.families.params import DeepLabParams

__all__ = ["build"]

_BACKBONES = {  # name: class of keras.applications, layer at stride 16, layer at stride 4
    "resnet50": ("ResNet50", "conv4_block6_2_relu", "conv2_block3_2_relu"),
    "resnet101": ("ResNet101", "conv4_block23_2_relu", "conv2_block3_2_relu"),
}


def build(params: DeepLabParams, classes: int, input_channels: int, head: str) -> keras.Model:
    """Build the network; see `cellseg.train.families.build_model`.

    References
    ----------
    .. [1] Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
       Segmentation", ECCV 2018.
    .. [2] He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    """
    image = image_input(input_channels)
    maker, deep, low = _BACKBONES[params.backbone]
    encoder = backbone(getattr(keras.applications, maker), params.weights, scaled(image, params))
    x = _pyramid(encoder.get_layer(deep).output, params)
    x = layers.UpSampling2D(4, interpolation="bilinear", name="up4")(x)  # stride 4
    edges = encoder.get_layer(low).output
    edges = conv_bn_relu(edges, params.low_level_filters, 1, "low", use_bias=False)
    x = layers.Concatenate(name="join")([x, edges])
    for index in range(2):
        x = conv_bn_relu(x, params.filters, 3, f"dec{index}", use_bias=False)
    x = layers.UpSampling2D(4, interpolation="bilinear", name="up1")(x)
    return keras.Model(image, head_of(x, classes, head), name="deeplab_v3plus")


def _pyramid(x: Any, params: DeepLabParams) -> Any:
    branches = [conv_bn_relu(x, params.filters, 1, "aspp1", use_bias=False)]
    for rate in params.atrous_rates:
        options = {"use_bias": False, "dilation_rate": rate}
        branches.append(conv_bn_relu(x, params.filters, 3, f"aspp_rate{rate}", **options))
    joined = _project(layers.Concatenate(name="aspp_join")(branches), params, "aspp_project")
    if params.image_pooling:
        mean = layers.GlobalAveragePooling2D(keepdims=True, name="image_pool")(x)
        mean = conv_bn_relu(mean, params.filters, 1, "image_pool", use_bias=False)
        joined = layers.Add(name="aspp_add")([joined, _project(mean, params, "image_project")])
    joined = layers.BatchNormalization(momentum=0.98, name="aspp_bn")(joined)
    return layers.Activation("relu", name="aspp_relu")(joined)


def _project(x: Any, params: DeepLabParams, name: str) -> Any:
    return layers.Conv2D(
        params.filters, 1, use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
