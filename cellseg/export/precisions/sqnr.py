"""How much noise int8 adds, layer by layer: the ratio of signal to noise in decibels.

Two numbers a convolution, both of its output on representative tiles:

``alone``    the float network with only this layer's input and weights in int8: its own fault
``through``  the whole quantized network: what has gathered up to here

20 dB is an error of a tenth of the signal, 40 dB of a hundredth. `alone` says which layer to give
back to float first; a layer that is quiet alone and loud through suffers from those before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from cellseg.export.onnx_graph.graph import Graph
from cellseg.export.onnx_graph.tensors import run_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["LayerNoise", "measure_noise"]

_PROBE = "/alone"
_CLEAN_DB = 99.0  # no noise at all; also keeps reports free of infinities


@dataclass(frozen=True)
class LayerNoise:
    """Signal to noise of one convolution's output."""

    layer: str
    """Name of the node."""

    weights: int
    """Number of its weights."""

    alone_db: float | None
    """With only this layer in int8; None for a layer that is float."""

    through_db: float
    """In the whole quantized network."""


def measure_noise(
    model: onnx.ModelProto, quantized: onnx.ModelProto, tiles: Sequence[NDArray[np.uint8]]
) -> list[LayerNoise]:
    """Measure every convolution, the noisiest alone first, float ones last.

    Parameters
    ----------
    model : onnx.ModelProto
        The float graph.
    quantized : onnx.ModelProto
        The same with Q/DQ pairs; convolutions keep their names.
    tiles : sequence of uint8, shape (h, w, 3)
        Representative tiles; a few are enough.
    """
    layers = {node.name: node for node in Graph(model).of_type("Conv", "ConvTranspose")}
    outputs = {name: node.output[0] for name, node in layers.items()}
    there = {node.name: node.output[0] for node in quantized.graph.node if node.name in layers}
    probed, probes = _with_probes(model, quantized)
    wanted = [*outputs.values(), *probes.values()]
    alone, through = _Noise(), _Noise()
    runs = (run_tensors(probed, wanted, tiles), run_tensors(quantized, [*there.values()], tiles))
    for clean, noisy in zip(*runs, strict=True):
        for name, output in outputs.items():
            through.add(name, clean[output], noisy[there[name]])
            if name in probes:
                alone.add(name, clean[output], clean[probes[name]])
    kernels = {name: Graph(model).constant(node.input[1]) for name, node in layers.items()}
    found = [
        LayerNoise(
            name,
            0 if (kernel := kernels[name]) is None else int(kernel.size),
            alone.decibels(name) if name in probes else None,
            through.decibels(name),
        )
        for name in layers
    ]
    return sorted(found, key=lambda item: (item.alone_db is None, item.alone_db or 0.0))


class _Noise:
    """Sums of squares by name."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, name: str, clean: NDArray[np.float32], noisy: NDArray[np.float32]) -> None:
        signal, noise = self._sums.get(name, (0.0, 0.0))
        difference = (noisy - clean).ravel()
        flat = clean.ravel()
        self._sums[name] = (signal + float(flat @ flat), noise + float(difference @ difference))

    def decibels(self, name: str) -> float:
        signal, noise = self._sums[name]
        if noise == 0.0 or signal == 0.0:
            return _CLEAN_DB if noise == 0.0 else -_CLEAN_DB
        return round(float(np.clip(10 * np.log10(signal / noise), -_CLEAN_DB, _CLEAN_DB)), 2)


def _with_probes(
    model: onnx.ModelProto, quantized: onnx.ModelProto
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Add to the float graph, beside each quantized convolution, one of int8 input and weights.

    Returns the graph and the probes' outputs by layer.
    """
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    graph, there, probes = Graph(probed), Graph(quantized), {}
    by_name = {node.name: node for node in there.nodes}
    for node in [*graph.of_type("Conv", "ConvTranspose")]:
        nodes = _probe(graph, node, there, by_name[node.name])
        if nodes:
            probes[node.name] = nodes[-1].output[0]
            graph.model.graph.node.extend(nodes)
    return probed, probes


def _probe(
    graph: Graph, node: onnx.NodeProto, there: Graph, twin: onnx.NodeProto
) -> list[onnx.NodeProto]:
    """Nodes that quantize a convolution's float input as its twin's is, and convolve it."""
    reader, weights = (_dequantize(there, name) for name in twin.input[:2])
    if reader is None or weights is None:
        return []
    steps = [there.constant(name) for name in reader.input[1:3]]
    name = f"{node.name}{_PROBE}"
    operands = [graph.add_constant(f"{name}/step", step) for step in steps if step is not None]
    kernel = graph.add_constant(f"{name}/kernel", _dequantized(there, weights))
    names = [f"{name}/q", f"{name}/dq"]
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name, copy.output[0] = name, name
    copy.input[0], copy.input[1] = names[1], kernel
    return [
        helper.make_node("QuantizeLinear", [node.input[0], *operands], [names[0]], names[0]),
        helper.make_node("DequantizeLinear", [names[0], *operands], [names[1]], names[1]),
        copy,
    ]


def _dequantize(graph: Graph, tensor: str) -> onnx.NodeProto | None:
    """Node that turns the bytes of a tensor to float; the image is transposed after that."""
    source = graph.producer(tensor)
    if source is not None and source.op_type == "Transpose":
        source = graph.producer(source.input[0])
    return source if source is not None and source.op_type == "DequantizeLinear" else None


def _dequantized(graph: Graph, node: onnx.NodeProto) -> NDArray[np.float32]:
    """Values of constant int8 weights."""
    from cellseg.export.onnx_graph.graph import attribute

    values, scale, zero = (graph.constant(name) for name in node.input)
    assert values is not None
    assert scale is not None
    assert zero is not None
    shape = [1] * values.ndim
    if scale.ndim:
        shape[attribute(node, "axis", 1)] = scale.size
    steps = values.astype(np.float32) - zero.astype(np.float32).reshape(shape)
    weights: NDArray[np.float32] = (steps * scale.reshape(shape)).astype(np.float32)
    return weights


def worst_first(noise: Iterable[LayerNoise]) -> list[str]:
    """Names of int8 layers, the noisiest alone first."""
    return [item.layer for item in noise if item.alone_db is not None]
