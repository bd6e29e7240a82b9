"""Attention UNet: the decoder decides, pixel by pixel, how much of a skip to let through.

Level i = 0..L-1, f = base_filters * 2**i::

    down i   conv3(f) BN relu, conv3(f) dropout BN relu -> skip -> pool 2
    gate i   sigmoid(conv1(relu(BN(conv1(up)) + BN(dropout(conv1(skip)))))) * skip
    up i     bilinear x 2, concat [gate, up], then the same as down i
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from cellseg.train.families.blocks import head_of, image_input, scaled

if TYPE_CHECKING:
    from cellseg.train.families.params import AttentionUNetParams

__all__ = ["build"]


def build(params: AttentionUNetParams, classes: int, input_channels: int, head: str) -> keras.Model:
    """Build the network; see `cellseg.train.families.build_model`.

    References
    ----------
    .. [1] Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018.
    """
    image = image_input(input_channels)
    x, skips = scaled(image, params), []
    for level in range(params.levels):
        x = _block(x, params, level, f"down{level}")
        if level < params.levels - 1:
            skips.append(x)
            x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
    for level in reversed(range(params.levels - 1)):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up{level}")(x)
        gated = _gate(x, skips[level], params, level)
        x = layers.Concatenate(name=f"skip{level}")([gated, x])
        x = _block(x, params, level, f"dec{level}")
    return keras.Model(image, head_of(x, classes, head), name="attention_unet")


def _block(x: Any, params: AttentionUNetParams, level: int, name: str) -> Any:
    filters = params.base_filters * 2**level
    x = _activated(_conv(x, filters, 3, f"{name}a"), f"{name}a")
    x = _dropped(_conv(x, filters, 3, f"{name}b"), params.dropout_rate, f"{name}b")
    return _activated(x, f"{name}b")


def _gate(up: Any, skip: Any, params: AttentionUNetParams, level: int) -> Any:
    """Weights 0..1 of every pixel and channel of the skip, times the skip."""
    filters, name = params.base_filters * 2**level, f"gate{level}"
    asked = _normalized(_conv(up, filters, 1, f"{name}_up"), f"{name}_up")
    seen = _dropped(_conv(skip, filters, 1, f"{name}_skip"), params.dropout_rate, f"{name}_skip")
    x = layers.Add(name=f"{name}_add")([asked, _normalized(seen, f"{name}_skip")])
    x = layers.Activation("relu", name=f"{name}_relu")(x)
    weight = layers.Conv2D(filters, 1, activation="sigmoid", name=f"{name}_weight")(x)
    return layers.Multiply(name=name)([weight, skip])


def _conv(x: Any, filters: int, kernel: int, name: str) -> Any:
    return layers.Conv2D(
        filters, kernel, padding="same", kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(momentum=0.98, name=f"{name}_bn")(x)


def _activated(x: Any, name: str) -> Any:
    return layers.Activation("relu", name=f"{name}_relu")(_normalized(x, name))


def _dropped(x: Any, rate: float, name: str) -> Any:
    return layers.Dropout(rate, name=f"{name}_drop")(x) if rate > 0 else x
