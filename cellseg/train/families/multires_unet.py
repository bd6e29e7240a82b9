"""MultiResUNet: blocks that see 3, 5 and 7 pixels at once, and convolutions along the skips.

With W = 1.67 * base_filters * 2**i, level i = 0..L-1, no convolution with a bias::

    block i  a = conv3(.167 W) BN relu    b = the same of a, .333 W    c = the same of b, .5 W
             BN(concat [a, b, c]) + BN(conv1), relu, BN
    path i   L - 1 - i times: BN(conv3) relu + BN(conv1), relu, BN
    up i     transposed conv(f, 2x2, stride 2), concat [up, path i], block i
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from cellseg.train.families.blocks import conv_bn_relu, head_of, image_input, scaled

if TYPE_CHECKING:
    from cellseg.train.families.params import MultiResUNetParams

__all__ = ["build"]

_WIDTH = 1.67
_SHARES = (0.167, 0.333, 0.5)


def build(params: MultiResUNetParams, classes: int, input_channels: int, head: str) -> keras.Model:
    """Build the network; see `cellseg.train.families.build_model`.

    References
    ----------
    .. [1] Ibtehaz and Rahman, "MultiResUNet: Rethinking the U-Net architecture for multimodal
       biomedical image segmentation", Neural Networks 121, 74-87, 2020.
    """
    image = image_input(input_channels)
    x, skips = scaled(image, params), []
    for level in range(params.levels):
        filters = params.base_filters * 2**level
        x = _block(x, filters, f"down{level}")
        if level < params.levels - 1:
            skips.append(_path(x, filters, params.levels - 1 - level, f"path{level}"))
            x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
    for level in reversed(range(params.levels - 1)):
        filters = params.base_filters * 2**level
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same", name=f"up{level}")(x)
        x = layers.Concatenate(name=f"skip{level}")([x, skips[level]])
        x = _block(x, filters, f"dec{level}")
    return keras.Model(image, head_of(x, classes, head), name="multires_unet")


def _block(x: Any, filters: int, name: str) -> Any:
    parts, last = [], x
    widths = [int(share * _WIDTH * filters) for share in _SHARES]
    for index, width in enumerate(widths):
        last = conv_bn_relu(last, width, 3, f"{name}_{index}", use_bias=False)
        parts.append(last)
    joined = _normalized(layers.Concatenate(name=f"{name}_join")(parts), f"{name}_join")
    return _residual(joined, x, sum(widths), name)


def _path(x: Any, filters: int, length: int, name: str) -> Any:
    for index in range(length):
        convolved = conv_bn_relu(x, filters, 3, f"{name}_{index}", use_bias=False)
        x = _residual(convolved, x, filters, f"{name}_{index}")
    return x


def _residual(x: Any, source: Any, filters: int, name: str) -> Any:
    """Add a 1x1 shortcut, then relu and BatchNorm."""
    shortcut = layers.Conv2D(
        filters, 1, use_bias=False, kernel_initializer="he_normal", name=f"{name}_short_conv"
    )(source)
    x = layers.Add(name=f"{name}_add")([x, _normalized(shortcut, f"{name}_short")])
    return _normalized(layers.Activation("relu", name=f"{name}_out")(x), f"{name}_out")


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(momentum=0.98, name=f"{name}_bn")(x)
