"""int8 for TensorRT: signed and symmetric, weights per channel, Q/DQ where TensorRT fuses it.

TensorRT takes no zero points, no unsigned activations and no quantized biases, and computes in
int8 exactly what stands between a Dequantize and the next Quantize. So the pairs are placed by
rule, not by a tool for CPUs:

- a convolution reads a quantized tensor and quantized weights (int8 by channel); its bias is float;
- what only moves values (max-pooling, concatenation, depth-to-space, nearest resize) has the same
  scale on both sides, so that it runs on bytes and nothing is requantized at a skip connection;
- a float convolution, which a search gave back, reads the float tensor;
- what the last convolutions give is float, and so is all that follows them.

::

    conv -> relu -> Q -> DQ -+-> maxpool -> Q -> DQ -> conv        one scale for all of these
                             +-> concat --> Q -> DQ -> conv
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import Graph, attribute
from cellseg.export.passes import run_passes
from cellseg.export.passes.cast_first import CastFirst
from cellseg.export.precisions.ranges import ranges_for

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from cellseg.export.precisions.ranges import Distribution

__all__ = ["QuantizeS8S8", "quantize_s8s8"]

_MOVERS = ("MaxPool", "Concat", "DepthToSpace", "Resize")
_LIMIT = 127  # -128 is not used: the range is symmetric


def quantize_s8s8(
    model: onnx.ModelProto,
    distributions: dict[str, Distribution],
    method: str,
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """Quantize a float graph, statically, for TensorRT.

    Parameters
    ----------
    model : onnx.ModelProto
        The float graph after all passes.
    distributions : dict of str to Distribution
        Of every tensor, from `collect_distributions`.
    method : str
        Key of ``RANGE_METHODS``.
    keep_float : collection of str
        Names of convolutions to leave in float.

    Returns
    -------
    onnx.ModelProto
        Same inputs, outputs, opset and IR version; node names stay.
    """
    quantize = QuantizeS8S8(ranges_for(distributions, method), keep_float)
    return run_passes((CastFirst(), quantize), model)


class QuantizeS8S8:
    """Puts signed, symmetric Q/DQ pairs around convolutions and what moves their values.

    Parameters
    ----------
    ranges : dict of str to (float, float)
        Least and greatest value of every tensor.
    floats : collection of str
        Names of convolutions to leave in float.
    """

    name = "quantize s8s8"

    def __init__(self, ranges: dict[str, tuple[float, float]], floats: Collection[str]) -> None:
        self._ranges, self._floats = ranges, floats

    def requires(self, graph: Graph) -> None:
        """Need a float graph whose tensors all have a range."""
        if any(True for _ in graph.of_type("QuantizeLinear", "DequantizeLinear")):
            raise ExportError("Only a float graph can be quantized. Received: Q/DQ nodes.")
        missing = sorted(
            name for node in self._convolutions(graph) for name in node.input[:1]
            if name not in self._ranges
        )  # fmt: skip
        if missing:
            raise ExportError(f"Every tensor needs a range. Received: none for {missing[0]!r}.")

    def apply(self, graph: Graph) -> int:
        """Insert the pairs; returns the number of convolutions quantized."""
        convolutions = self._convolutions(graph)
        tied = _Tied()
        for node in convolutions:
            _collect(graph, node.input[0], tied)
        scales = self._scales(tied)
        readers = {node.name for node in convolutions}
        for tensor in tied.members:
            _insert_pair(graph, tensor, scales[tensor], readers, tied.members)
        for node in convolutions:
            _quantize_weights(graph, node.name)
        return len(convolutions)

    def ensures(self, graph: Graph) -> None:
        """Leave every chosen convolution between quantized tensors, all of them signed."""
        for node in self._convolutions(graph):
            made_by = [graph.producer(name) for name in node.input[:2]]
            if any(source is None or source.op_type != "DequantizeLinear" for source in made_by):
                raise ExportError(f"Convolution {node.name!r} must read int8. Received: float.")

    def _convolutions(self, graph: Graph) -> list[onnx.NodeProto]:
        return [node for node in graph.of_type("Conv") if node.name not in self._floats]

    def _scales(self, tied: _Tied) -> dict[str, float]:
        """One scale a group: that of its greatest magnitude."""
        limits: dict[str, float] = {}
        for tensor in tied.members:
            root = tied.root(tensor)
            limits[root] = max(limits.get(root, 0.0), *map(abs, self._ranges[tensor]))
        return {t: (limits[tied.root(t)] or 1.0) / _LIMIT for t in tied.members}


class _Tied:
    """Tensors in groups that share a scale, in the order they were met."""

    def __init__(self) -> None:
        self.members: dict[str, str] = {}

    def add(self, tensor: str) -> bool:
        """Add a group of one; False if the tensor is in a group already."""
        known = tensor in self.members
        self.members.setdefault(tensor, tensor)
        return not known

    def root(self, tensor: str) -> str:
        while self.members[tensor] != tensor:
            tensor = self.members[tensor]
        return tensor

    def tie(self, first: str, second: str) -> None:
        self.members[self.root(first)] = self.root(second)


def _collect(graph: Graph, tensor: str, tied: _Tied) -> None:
    """Note a tensor to be quantized, and through movers those it is made of."""
    if not tied.add(tensor):
        return
    maker = graph.producer(tensor)
    if maker is None or not _moves(maker):
        return
    for source in _moved(maker):
        _collect(graph, source, tied)
        tied.tie(source, tensor)


def _moves(node: onnx.NodeProto) -> bool:
    """Whether a node's outputs are values of its inputs, so that bytes stay bytes."""
    if node.op_type == "Resize":
        return bool(attribute(node, "mode", b"nearest") == b"nearest")
    return node.op_type in _MOVERS


def _moved(node: onnx.NodeProto) -> list[str]:
    return [*node.input] if node.op_type == "Concat" else [node.input[0]]


def _insert_pair(
    graph: Graph, tensor: str, scale: float, readers: set[str], quantized: Collection[str]
) -> None:
    """Let the quantized readers of a tensor read it through Quantize and Dequantize."""
    operands = [
        graph.add_constant(f"{tensor}/scale", np.array(scale, np.float32)),
        graph.add_constant(f"{tensor}/zero", np.array(0, np.int8)),
    ]
    for consumer in graph.consumers(tensor):
        moves_bytes = _moves(consumer) and consumer.output[0] in quantized
        if consumer.name in readers or moves_bytes:
            places = [i for i, name in enumerate(consumer.input) if name == tensor]
            for index in places:
                consumer.input[index] = f"{tensor}/int8"
    pair = [
        helper.make_node("QuantizeLinear", [tensor, *operands], [f"{tensor}/q"], f"{tensor}/q"),
        helper.make_node(
            "DequantizeLinear", [f"{tensor}/q", *operands], [f"{tensor}/int8"], f"{tensor}/dq"
        ),
    ]
    _insert_after(graph, tensor, pair)


def _quantize_weights(graph: Graph, convolution: str) -> None:
    """Store a convolution's weights as int8, one scale an output channel."""
    node = next(node for node in graph.model.graph.node if node.name == convolution)
    weights = graph.constant(node.input[1])
    if weights is None:
        raise ExportError(f"Weights must be constant. Received: {convolution!r} computes them.")
    scales, values = _by_channel(weights)
    kernel = node.input[1]
    operands = [
        graph.add_constant(f"{kernel}/q", values),
        graph.add_constant(f"{kernel}/scale", scales),
        graph.add_constant(f"{kernel}/zero", np.zeros(len(scales), np.int8)),
    ]
    made = helper.make_node(
        "DequantizeLinear", operands, [f"{kernel}/int8"], f"{kernel}/dq", axis=0
    )
    node.input[1] = f"{kernel}/int8"
    graph.model.graph.node.insert(list(graph.model.graph.node).index(node), made)


def _by_channel(weights: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Return scales (out,) and int8 weights of the same shape."""
    limits = np.abs(weights).reshape(len(weights), -1).max(1)
    scales = (np.where(limits == 0, 1.0, limits) / _LIMIT).astype(np.float32)
    steps = np.rint(weights / scales.reshape(-1, *[1] * (weights.ndim - 1)))
    return scales, np.clip(steps, -_LIMIT, _LIMIT).astype(np.int8)


def _insert_after(graph: Graph, tensor: str, nodes: list[onnx.NodeProto]) -> None:
    """Insert nodes behind the one that makes a tensor; at the front for an input."""
    order = list(graph.model.graph.node)
    place = next((i + 1 for i, node in enumerate(order) if tensor in node.output), 0)
    for offset, node in enumerate(nodes):
        graph.model.graph.node.insert(place + offset, node)
