"""Which Keras layers look at the whole tile, so that no halo makes tiles equal the whole image."""

from __future__ import annotations

from typing import Any

__all__ = ["sees_whole_tile"]

_ALWAYS = {
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "GroupNormalization",
    "InstanceNormalization",
    "MultiHeadAttention",
}
_BY_AXIS = ("LayerNormalization", "UnitNormalization")


def sees_whole_tile(layer: Any) -> bool:
    """Return whether a pixel of a layer's output depends on every pixel of the tile.

    Parameters
    ----------
    layer : keras.Layer
        Of a built network on maps (N, H, W, C).
    """
    kind = type(layer).__name__
    if kind in _BY_AXIS:
        axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        return any(axis not in (-1, 3) for axis in axes)
    return kind in _ALWAYS
