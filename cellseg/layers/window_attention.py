"""Attention among the pixels of a window, as a Keras layer that tiles exactly.

Windows lie on a fixed grid. A shifted layer moves the grid by half a window; those that then stick
out of the map are filled with pixels that nobody attends to. (Rolling the map around and masking
what came from the other side, as in the paper, gives each pixel the same neighbours.) So a pixel
depends on its own window only, and a network of such layers has a finite reach::

    shift 0   |----|----|----|        shift 2   --|----|----|--      windows of 4
              0    4    8    12                 0  2    6    10  12
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["OUTSIDE", "WindowAttention", "relative_index"]

OUTSIDE = -1e4
"""Added to the score of a pixel outside the map; the softmax then gives it nothing."""


@keras.saving.register_keras_serializable(package="cellseg")
class WindowAttention(keras.layers.Layer):
    """Multi-head self-attention within windows, with a bias by relative position.

    Parameters
    ----------
    window : int
        Side of a window; heights and widths of the map must be multiples of it.
    heads : int
        Attention heads; divides the channels.
    shift : int
        Shift of the grid, 0 or ``window // 2``.

    Notes
    -----
    With q, k, v the projections of the w * w pixels of a window and B the learned bias, one number
    for each of the (2 w - 1)**2 relative positions and each head::

        softmax(q k^T / sqrt(d) + B) v,   then a projection of the joined heads

    References
    ----------
    .. [1] Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
       ICCV 2021.
    """

    def __init__(self, window: int, heads: int, shift: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.window, self.heads, self.shift = window, heads, shift

    def build(self, input_shape: Any) -> None:
        """Make the projections and the bias."""
        channels, spans = int(input_shape[-1]), (2 * self.window - 1) ** 2
        self.qkv_kernel = self._matrix("qkv_kernel", (channels, 3 * channels), "glorot_uniform")
        self.qkv_bias = self._matrix("qkv_bias", (3 * channels,), "zeros")
        self.out_kernel = self._matrix("out_kernel", (channels, channels), "glorot_uniform")
        self.out_bias = self._matrix("out_bias", (channels,), "zeros")
        near = keras.initializers.TruncatedNormal(stddev=0.02)
        self.position_bias = self._matrix("position_bias", (spans, self.heads), near)

    def _matrix(self, name: str, shape: tuple[int, ...], start: Any) -> Any:
        return self.add_weight(shape=shape, initializer=start, name=name)

    def call(self, x: Any) -> Any:
        """Map (N, H, W, C) to the same shape."""
        channels = x.shape[-1]
        each = channels // self.heads
        qkv = ops.matmul(x, self.qkv_kernel) + self.qkv_bias
        tokens = self._windows(qkv)  # (N, rows, columns, w * w, 3 C)
        parts = (*ops.shape(tokens)[:4], 3, self.heads, each)
        q, k, v = ops.unstack(ops.reshape(tokens, parts), axis=4)
        q, k, v = (ops.transpose(part, (0, 1, 2, 4, 3, 5)) for part in (q, k, v))
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 2, 3, 5, 4))) * each**-0.5
        scores = scores + self.positions()
        if self.shift:
            scores = scores + ops.cast(self._outside(x), scores.dtype)
        weights = ops.cast(_softmax(ops.cast(scores, "float32")), v.dtype)
        found = ops.transpose(ops.matmul(weights, v), (0, 1, 2, 4, 3, 5))
        found = ops.reshape(found, (*ops.shape(tokens)[:4], channels))
        return ops.matmul(self._map(found), self.out_kernel) + self.out_bias

    def _windows(self, x: Any) -> Any:
        """Cut (N, H, W, C) into windows (N, rows, columns, w * w, C)."""
        side = self.window
        if self.shift:
            ends = (side - self.shift, self.shift)
            x = ops.pad(x, ((0, 0), ends, ends, (0, 0)))
        count, height, width, channels = ops.shape(x)
        x = ops.reshape(x, (count, height // side, side, width // side, side, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (count, height // side, width // side, side * side, channels))

    def _map(self, tokens: Any) -> Any:
        """Undo `_windows`."""
        side = self.window
        count, rows, columns, _, channels = ops.shape(tokens)
        x = ops.reshape(tokens, (count, rows, columns, side, side, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (count, rows * side, columns * side, channels))
        first = side - self.shift
        return x[:, first : -self.shift, first : -self.shift] if self.shift else x

    def positions(self) -> Any:
        """Return the bias of each pair of pixels, (heads, w * w, w * w)."""
        tokens = self.window**2
        bias = ops.take(self.position_bias, relative_index(self.window).ravel(), axis=0)
        return ops.transpose(ops.reshape(bias, (tokens, tokens, self.heads)), (2, 0, 1))

    def _outside(self, x: Any) -> Any:
        """`OUTSIDE` for each pixel that is not of the map, (N, rows, columns, 1, 1, w * w)."""
        inside = self._windows(ops.ones_like(x[..., :1]))
        return (ops.transpose(inside, (0, 1, 2, 4, 3))[:, :, :, None] - 1.0) * -OUTSIDE

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input's shape."""
        return input_shape

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds on a map of so many pixels; the border of a shifted grid left out."""
        channels = int(self.out_kernel.shape[0])
        return height * width * (4 * channels**2 + 2 * channels * self.window**2)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        own = {"window": self.window, "heads": self.heads, "shift": self.shift}
        return {**super().get_config(), **own}


def relative_index(window: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Row of the bias table for each pair of pixels, shape (w * w, w * w).

    >>> relative_index(2)[0].tolist()
    [4, 3, 1, 0]
    """
    y, x = (axis.ravel() for axis in np.mgrid[:window, :window])
    rows = y[:, None] - y + window - 1
    columns = x[:, None] - x + window - 1
    return np.asarray(rows * (2 * window - 1) + columns, dtype=np.int32)


def _softmax(scores: Any) -> Any:
    """Softmax over the last axis, of rows: TensorFlow's oneDNN takes no more than five axes."""
    shape = ops.shape(scores)
    return ops.reshape(ops.softmax(ops.reshape(scores, (-1, shape[-1])), axis=-1), shape)
