"""Rounds the weights of an int8 graph so that their errors cancel over what a layer really sees.

To the nearest step, each weight is wrong by up to half a step, and the errors of a kernel add up as
chance will have it. Here weights are rounded one after the other, and what the ones before are
wrong by is made up for by those that are still free, as far as the layer's inputs on representative
tiles say that they can: optimal brain quantization in the order and form of GPTQ [1]_. Scales, zero
points and file stay as they are; only integers change, most of them not at all or by one.

References
----------
.. [1] Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for
   Generative Pre-trained Transformers", ICLR 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from cellseg.export.onnx_graph.graph import Graph, attribute
from cellseg.export.onnx_graph.tensors import run_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Moments = dict[str, NDArray[np.float64]]

__all__ = ["round_weights", "second_moments"]

_PLACES = 1000  # a layer and tile; a kernel of 128 channels has 1,152 weights to tell apart
_MOST_INPUTS = 2304  # 3 x 3 x 256; matrices of more take hundreds of megabytes and minutes
_DAMPING = 0.01  # of the mean of what inputs say of each other, against noise in that


def second_moments(model: onnx.ModelProto, tiles: Sequence[NDArray[np.uint8]]) -> Moments:
    """Sum up, for each convolution, what its inputs are together with each other.

    Parameters
    ----------
    model : onnx.ModelProto
        The float graph.
    tiles : sequence of uint8, shape (h, w, 3)
        Representative tiles.

    Returns
    -------
    dict of str to float64, shape (C * kh * kw, C * kh * kw)
        By name of the node: sums of products over places drawn at random. Without grouped and
        transposed convolutions, and those of more than 2304 inputs.
    """
    random = np.random.default_rng(0)
    layers = _layers(model)
    sums: Moments = {layer.name: np.zeros((layer.inputs,) * 2) for layer in layers}
    names = list(dict.fromkeys(layer.node.input[0] for layer in layers))
    for tensors in run_tensors(model, names, tiles):
        for layer in layers:
            seen = _patches(tensors[layer.node.input[0]][0], layer, random)
            sums[layer.name] += seen.T @ seen
    return sums


def round_weights(
    model: onnx.ModelProto, quantized: onnx.ModelProto, moments: Moments
) -> onnx.ModelProto:
    """Return an int8 graph with its convolutions' weights rounded together.

    Parameters
    ----------
    model : onnx.ModelProto
        The float graph.
    quantized : onnx.ModelProto
        The same with Q/DQ pairs; convolutions keep their names. Those in float stay as they are.
    moments : dict
        Of `second_moments`; a convolution without stays as it is.
    """
    rounded = onnx.ModelProto()
    rounded.CopyFrom(quantized)
    graph = Graph(rounded)
    twins = {node.name: node for node in graph.of_type("Conv")}
    for layer in _layers(model):
        twin = twins.get(layer.name)
        source = None if twin is None else graph.producer(twin.input[1])
        if layer.name not in moments or source is None:
            continue
        integers, scale = (graph.constant(name) for name in source.input[:2])
        if integers is None or scale is None or integers.dtype != np.int8:
            continue
        steps = np.broadcast_to(scale.astype(np.float64).ravel(), len(integers))
        most = int(np.abs(integers.astype(int)).max())
        together = _rounded(layer.weights, steps, most, moments[layer.name])
        _write(rounded, source.input[0], together)
    return rounded


@dataclass(frozen=True)
class _Layer:
    """A convolution of the float graph."""

    node: onnx.NodeProto
    """What it is."""

    weights: NDArray[np.float32]
    """Its kernel, shape (K, C, kh, kw)."""

    @property
    def name(self) -> str:
        return str(self.node.name)

    @property
    def inputs(self) -> int:
        return int(self.weights[0].size)


def _layers(model: onnx.ModelProto) -> list[_Layer]:
    graph = Graph(model)
    kernels = [
        (node, graph.constant(node.input[1]))
        for node in graph.of_type("Conv")
        if attribute(node, "group", 1) == 1
    ]
    layers = [_Layer(node, kernel) for node, kernel in kernels if kernel is not None]
    return [layer for layer in layers if layer.inputs <= _MOST_INPUTS]


def _patches(
    values: NDArray[np.float32], layer: _Layer, random: np.random.Generator
) -> NDArray[np.float32]:
    """Return what the kernel sees at places drawn at random, shape (places, C * kh * kw)."""
    node = layer.node
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    (down, across), (dy, dx) = (attribute(node, key, [1, 1]) for key in ("strides", "dilations"))
    padded = np.pad(values, ((0, 0), (top, bottom), (left, right)))
    kh, kw = layer.weights.shape[2:]
    rows = (padded.shape[1] - (kh - 1) * dy - 1) // down + 1  # of the output
    columns = (padded.shape[2] - (kw - 1) * dx - 1) // across + 1
    y = random.integers(0, rows, _PLACES)[:, None] * down + np.arange(kh) * dy
    x = random.integers(0, columns, _PLACES)[:, None] * across + np.arange(kw) * dx
    seen = padded[:, y[:, :, None], x[:, None, :]]  # (C, places, kh, kw)
    return seen.swapaxes(0, 1).reshape(_PLACES, -1)


def _rounded(
    kernel: NDArray[np.float32],
    steps: NDArray[np.float64],
    most: int,
    moments: NDArray[np.float64],
) -> NDArray[np.int8]:
    """Round a kernel weight by weight, those of the strongest inputs first.

    Parameters
    ----------
    kernel : float32, shape (K, C, kh, kw)
        What to round.
    steps : float64, shape (K,)
        Step of each output channel.
    most : int
        Greatest magnitude of an integer.
    moments : float64, shape (C * kh * kw, C * kh * kw)
        Of its inputs.
    """
    order = np.argsort(-np.diag(moments), kind="stable")
    left = kernel.reshape(len(kernel), -1).astype(np.float64)[:, order]
    damping = _DAMPING * np.trace(moments) / len(order) + np.finfo(np.float32).tiny
    damped = moments[np.ix_(order, order)] + damping * np.eye(len(order))
    # Row j of this factor says how the weights behind j make up for an error of weight j.
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    integers = np.zeros_like(left)
    for j in range(len(order)):
        integers[:, j] = np.clip(np.rint(left[:, j] / steps), -most, most)
        error = (left[:, j] - integers[:, j] * steps) / factor[j, j]
        left[:, j + 1 :] -= np.outer(error, factor[j, j + 1 :])
    back = np.empty_like(integers)
    back[:, order] = integers
    return back.reshape(kernel.shape).astype(np.int8)


def _write(model: onnx.ModelProto, name: str, values: NDArray[np.int8]) -> None:
    for item in model.graph.initializer:
        if item.name == name:
            item.CopyFrom(numpy_helper.from_array(values, name))
