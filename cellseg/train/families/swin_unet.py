"""Swin-UNet: a UNet whose levels are transformer blocks within windows.

Level i = 0..L-1 works on patches of ``patch_px * 2**i`` px with C = ``base_filters`` * 2**i::

    patches  conv(C, patch, stride patch)
    block    x + attention(LN(x)), then x + conv1(C, gelu(conv1(mlp_filters, LN(x))))
    down     conv(2 C, 2x2, stride 2): the four patches of a block joined and projected
    up       transposed conv(C / 2, 2x2, stride 2), concat skip, conv1, blocks
    last     transposed conv back to pixels, head

Positions are told by the attention's relative bias alone. The seeds also learn one vector a place,
which ties a network to one image size; without it any multiple of the stride will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from cellseg.layers import WindowAttention
from cellseg.train.families.blocks import head_of, image_input, scaled

if TYPE_CHECKING:
    from cellseg.train.families.params import SwinUNetParams

__all__ = ["build"]


def build(params: SwinUNetParams, classes: int, input_channels: int, head: str) -> keras.Model:
    """Build the network; see `cellseg.train.families.build_model`.

    References
    ----------
    .. [1] Cao et al., "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation",
       ECCV Workshops 2022.
    .. [2] Liu et al., "Swin Transformer", ICCV 2021.
    """
    image = image_input(input_channels)
    x = layers.Conv2D(
        params.base_filters, params.patch_px, strides=params.patch_px, padding="same", name="patch"
    )(scaled(image, params))  # (N, H / patch, W / patch, C)
    skips = []
    for level in range(params.levels):
        x = _blocks(x, params, level, f"down{level}")
        if level < params.levels - 1:
            skips.append(x)
            x = layers.Conv2D(
                2 * x.shape[-1], 2, strides=2, use_bias=False, padding="same", name=f"merge{level}"
            )(x)
    for level in reversed(range(params.levels - 1)):
        filters = params.base_filters * 2**level
        x = _expanded(x, filters, 2, f"expand{level}")
        x = layers.Concatenate(name=f"skip{level}")([x, skips[level]])
        x = layers.Conv2D(filters, 1, use_bias=False, name=f"reduce{level}")(x)
        x = _blocks(x, params, level, f"dec{level}")
    x = _expanded(x, max(1, params.base_filters // params.patch_px), params.patch_px, "expand")
    return keras.Model(image, head_of(x, classes, head), name="swin_unet")


def _blocks(x: Any, params: SwinUNetParams, level: int, name: str) -> Any:
    for index in range(params.blocks):
        shift = params.windows[level] // 2 if params.shift and index % 2 else 0
        x = _block(x, params, level, shift, f"{name}_{index}")
    return x


def _block(x: Any, params: SwinUNetParams, level: int, shift: int, name: str) -> Any:
    y = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_ln1")(x)
    y = WindowAttention(params.windows[level], params.heads[level], shift, name=f"{name}_attn")(y)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_ln2")(x)
    y = layers.Conv2D(params.mlp_filters, 1, activation="gelu", name=f"{name}_mlp1")(y)
    y = layers.Conv2D(x.shape[-1], 1, name=f"{name}_mlp2")(y)
    return layers.Add(name=f"{name}_add2")([x, y])


def _expanded(x: Any, filters: int, times: int, name: str) -> Any:
    """Give each pixel ``times`` x ``times`` of its own: projection, then depth to space."""
    return layers.Conv2DTranspose(
        filters, times, strides=times, padding="same", use_bias=False, name=name
    )(x)
