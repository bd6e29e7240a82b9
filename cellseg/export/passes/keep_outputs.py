"""Leaves what some quantized convolutions give in float: their inputs and weights stay int8.

An integer convolution sums up in 32 bits and may as well write floats. For the last one that is the
better end: its logits keep their fractions, and what follows is float anyway::

    DQ -> Conv -> Quantize -> Dequantize -> Softmax
    DQ -> Conv ---------------------------> Softmax
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx

    from cellseg.export.onnx_graph.graph import Graph

__all__ = ["KeepOutputs"]


class KeepOutputs:
    """Quantize, Dequantize behind these convolutions vanish.

    Parameters
    ----------
    convolutions : collection of str
        Names of the nodes.
    """

    name = "keep outputs"

    def __init__(self, convolutions: Collection[str]) -> None:
        self._convolutions = convolutions

    def requires(self, graph: Graph) -> None:
        """Need the named nodes."""
        missing = sorted({*self._convolutions} - {node.name for node in graph.nodes})
        if missing:
            raise ExportError(f"A convolution must be in the graph. Received: {missing[0]!r}.")

    def apply(self, graph: Graph) -> int:
        """Remove the pairs; returns how many."""
        pairs = self._pairs(graph)
        for node, quantize, dequantize in pairs:
            source = node.output[0]
            if dequantize.output[0] == graph.output:
                source = node.output[0] = graph.output
            graph.bypass(dequantize, source)
            graph.replace(quantize, [])
        return len(pairs)

    def ensures(self, graph: Graph) -> None:
        """Leave no such pair."""
        if self._pairs(graph):
            raise ExportError("What the last convolutions give must be float. Received: bytes.")

    def _pairs(self, graph: Graph) -> list[tuple[onnx.NodeProto, onnx.NodeProto, onnx.NodeProto]]:
        found = []
        for node in graph.nodes:
            if node.name not in self._convolutions:
                continue
            quantize = graph.sole_consumer(node.output[0])
            if quantize is None or quantize.op_type != "QuantizeLinear":
                continue
            dequantize = graph.sole_consumer(quantize.output[0])
            if dequantize is not None and dequantize.op_type == "DequantizeLinear":
                found.append((node, quantize, dequantize))
        return found
