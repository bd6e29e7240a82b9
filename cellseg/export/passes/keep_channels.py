"""Drops output channels that nobody reads, and the computation behind them where possible.

A network may be trained with extra outputs (a distance map beside the classes) that its bundle does
not use. Branches of a Concat and rows of a convolution's weights fall away; behind a softmax, whose
channels need each other, the unwanted ones are cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import attribute
from cellseg.export.passes.conv_transpose import POINTWISE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellseg.export.onnx_graph.graph import Graph

__all__ = ["KeepChannels"]


class KeepChannels:
    """Only some output channels are kept.

    Parameters
    ----------
    channels : sequence of int
        Indices of the output channels to keep, ascending.
    """

    name = "keep channels"

    def __init__(self, channels: Sequence[int]) -> None:
        self.channels = list(channels)

    def requires(self, graph: Graph) -> None:
        """Need ascending indices, and a graph that ends in our Transpose to NHWC."""
        count = _output_channels(graph)
        if sorted(set(self.channels)) != self.channels or not self.channels:
            raise ExportError(f"Channels to keep must ascend. Received: {self.channels}.")
        if self.channels[0] < 0 or self.channels[-1] >= count:
            raise ExportError(f"Channels to keep must be below {count}. Received: {self.channels}.")
        last = graph.producer(graph.output)
        if last is None or last.op_type != "Transpose":
            raise ExportError("The graph must end in a Transpose. Received: another operator.")

    def apply(self, graph: Graph) -> int:
        """Cut the graph back from its output."""
        if len(self.channels) == _output_channels(graph):
            return 0
        last = graph.producer(graph.output)
        assert last is not None  # requires has looked
        widths = _channel_counts(graph)
        last.input[0] = _cut(graph, last.input[0], self.channels, widths)
        shape = graph.model.graph.output[0].type.tensor_type.shape
        shape.dim[3].dim_value = len(self.channels)
        return 1

    def ensures(self, graph: Graph) -> None:
        """Leave exactly the kept channels."""
        count = _output_channels(graph)
        if count != len(self.channels):
            raise ExportError(f"{len(self.channels)} channels must be left. Received: {count}.")


def _cut(graph: Graph, tensor: str, keep: list[int], widths: dict[str, int]) -> str:
    """Return a tensor that holds the kept channels of another; the old one may become unused."""
    node = graph.producer(tensor)
    if keep == list(range(widths[tensor])) or node is None:
        return tensor
    if node.op_type == "Concat" and attribute(node, "axis") == 1:
        return _cut_concat(graph, node, keep, widths)
    if node.op_type in POINTWISE:
        source = _cut(graph, node.input[0], keep, widths)
        return _insert(graph, node, [source], f"{tensor}/kept")
    if node.op_type == "Conv" and attribute(node, "group", 1) == 1:
        return _cut_conv(graph, node, keep)
    indices = graph.add_constant(f"{tensor}/kept_channels", np.array(keep, np.int64))
    gather = helper.make_node("Gather", [tensor, indices], [f"{tensor}/kept"], axis=1)
    return _after(graph, node, gather)


def _cut_concat(graph: Graph, node: onnx.NodeProto, keep: list[int], widths: dict[str, int]) -> str:
    parts, start = [], 0
    for source in node.input:
        inside = [index - start for index in keep if start <= index < start + widths[source]]
        start += widths[source]
        if inside:
            parts.append(_cut(graph, source, inside, widths))
    return parts[0] if len(parts) == 1 else _insert(graph, node, parts, f"{node.output[0]}/kept")


def _cut_conv(graph: Graph, node: onnx.NodeProto, keep: list[int]) -> str:
    operands = [node.input[0]]
    for name in node.input[1:]:
        value = graph.constant(name)
        if value is None:
            raise ExportError(f"Weights must be constant. Received: {name!r}.")
        operands.append(graph.add_constant(f"{name}/kept", value[keep]))
    return _insert(graph, node, operands, f"{node.output[0]}/kept")


def _insert(graph: Graph, like: onnx.NodeProto, inputs: list[str], output: str) -> str:
    """Add a node with the attributes of another, behind it."""
    node = helper.make_node(like.op_type, inputs, [output], like.name)
    node.attribute.extend(like.attribute)
    return _after(graph, like, node)


def _after(graph: Graph, place: onnx.NodeProto, node: onnx.NodeProto) -> str:
    copy = type(place)()
    copy.CopyFrom(place)
    graph.replace(place, [copy, node])
    return str(node.output[0])


def _output_channels(graph: Graph) -> int:
    return int(graph.model.graph.output[0].type.tensor_type.shape.dim[3].dim_value)


def _channel_counts(graph: Graph) -> dict[str, int]:
    """Channels of every NCHW tensor, by ONNX's shape inference."""
    inferred = onnx.shape_inference.infer_shapes(graph.model, strict_mode=True)
    return {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in inferred.graph.value_info
        if len(value.type.tensor_type.shape.dim) == 4
    }
