"""Attention within windows, from our Keras layer to ONNX operators that ask for no size.

A window's w * w pixels become one pixel with w * w times the channels (SpaceToDepth), so that the
rest happens pixel by pixel, on small matrices; a Reshape keeps the first three axes as they are
(a 0 in ONNX), whatever their size::

    q, k, v  conv 1x1 -> [Pad] -> SpaceToDepth(w) -> NHWC -> (N, H/w, W/w, w*w, heads, d)
             -> q, v (.., heads, w*w, d), k (.., heads, d, w*w)
    scores   MatMul(q, k) + bias [- 1e4 where a pixel lies outside] -> Softmax -> MatMul with v
    back     (.., w*w * C) -> NCHW -> DepthToSpace(w) -> [Slice] -> conv 1x1
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.export.from_keras.common import array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.export.onnx_graph.builder import GraphBuilder

__all__ = ["window_attention"]

_OUTSIDE = 1e4
_TO_NHWC, _TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
_HEADS_FIRST, _HEADS_FIRST_TURNED = [0, 1, 2, 4, 3, 5], [0, 1, 2, 4, 5, 3]


def window_attention(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    """Convert a `cellseg.layers.WindowAttention`."""
    return _Writer(builder, layer).write(inputs[0])


class _Writer:
    """Adds the nodes of one layer."""

    def __init__(self, builder: GraphBuilder, layer: Any) -> None:
        self._builder, self._layer, self._name = builder, layer, layer.name
        self._side, self._shift, self._heads = layer.window, layer.shift, layer.heads
        self._channels = int(layer.out_kernel.shape[0])

    def write(self, value: str) -> str:
        kernels = np.split(array(self._layer.qkv_kernel), 3, axis=1)
        biases = np.split(array(self._layer.qkv_bias), 3)
        scale = np.float32((self._channels // self._heads) ** -0.5)
        kernels[0], biases[0] = kernels[0] * scale, biases[0] * scale
        q, k, v = (
            self._tokens(self._project(value, kernel, bias, name), name)
            for kernel, bias, name in zip(kernels, biases, "qkv", strict=True)
        )
        scores = self._node("MatMul", [q, k], "scores")
        scores = self._node("Add", [scores, self._positions()], "placed")
        if self._shift:
            scores = self._node("Add", [scores, self._outside(value)], "within")
        weights = self._node("Softmax", [scores], "weights", axis=-1)
        found = self._node("MatMul", [weights, v], "found")
        return self._back(found)

    def _node(self, op: str, inputs: list[str], part: str, **attributes: Any) -> str:
        return self._builder.node(op, inputs, f"{self._name}/{part}", **attributes)

    def _constant(self, value: NDArray[Any], part: str) -> str:
        return self._builder.constant(value, f"{self._name}/{part}")

    def _project(
        self, value: str, kernel: NDArray[np.float32], bias: NDArray[np.float32], part: str
    ) -> str:
        weights = self._constant(kernel.T[:, :, None, None], f"{part}/kernel")
        return self._node(
            "Conv",
            [value, weights, self._constant(bias, f"{part}/bias")],
            part,
            kernel_shape=[1, 1],
            strides=[1, 1],
            dilations=[1, 1],
            pads=[0, 0, 0, 0],
            group=1,
        )

    def _windows(self, value: str, part: str) -> str:
        """(N, c, H, W) to (N, H/w, W/w, w * w * c)."""
        if self._shift:
            before, after = self._side - self._shift, self._shift
            sizes = np.array([0, 0, before, before, 0, 0, after, after], np.int64)
            pads = self._constant(sizes, f"{part}/pads")
            value = self._node("Pad", [value, pads], f"{part}/padded")
        value = self._node("SpaceToDepth", [value], f"{part}/blocks", blocksize=self._side)
        return self._node("Transpose", [value], f"{part}/packed", perm=_TO_NHWC)

    def _reshape(self, value: str, last: list[int], part: str) -> str:
        shape = self._constant(np.array([0, 0, 0, *last], np.int64), f"{part}/shape")
        return self._node("Reshape", [value, shape], part)

    def _tokens(self, value: str, part: str) -> str:
        last = [self._side**2, self._heads, self._channels // self._heads]
        value = self._reshape(self._windows(value, part), last, f"{part}/tokens")
        perm = _HEADS_FIRST_TURNED if part == "k" else _HEADS_FIRST
        return self._node("Transpose", [value], f"{part}/heads", perm=perm)

    def _positions(self) -> str:
        return self._constant(array(self._layer.positions())[None, None, None], "positions")

    def _outside(self, value: str) -> str:
        """0 for a pixel of the map, -1e4 for one of the padding: (N, H/w, W/w, 1, 1, w * w)."""
        peak = self._node("ReduceMax", [value], "inside/peak", axes=[1], keepdims=1)
        one = self._constant(np.ones((1, 1, 1), np.float32), "inside/one")
        zero = self._constant(np.zeros((1, 1, 1), np.float32), "inside/zero")
        inside = self._node("Mul", [peak, zero], "inside/nothing")
        inside = self._windows(self._node("Add", [inside, one], "inside"), "inside")
        inside = self._reshape(inside, [1, 1, self._side**2], "inside/tokens")
        shape = (1, 1, 1, 1, 1, 1)
        one = self._constant(np.ones(shape, np.float32), "outside/one")
        large = self._constant(np.full(shape, _OUTSIDE, np.float32), "outside/large")
        missing = self._node("Sub", [inside, one], "outside/missing")
        return self._node("Mul", [missing, large], "outside")

    def _back(self, found: str) -> str:
        value = self._node("Transpose", [found], "found/tokens", perm=_HEADS_FIRST)
        value = self._reshape(value, [self._side**2 * self._channels], "found/windows")
        value = self._node("Transpose", [value], "found/planar", perm=_TO_NCHW)
        value = self._node("DepthToSpace", [value], "found/map", blocksize=self._side, mode="DCR")
        if self._shift:
            ends = (self._side - self._shift, -self._shift)
            first, last = (self._constant(np.array([end] * 2, np.int64), "cut") for end in ends)
            axes = self._constant(np.array([2, 3], np.int64), "cut/axes")
            value = self._node("Slice", [value, first, last, axes], "found/inner")
        return self._project(
            value, array(self._layer.out_kernel), array(self._layer.out_bias), "out"
        )
