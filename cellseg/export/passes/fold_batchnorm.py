"""Folds BatchNormalization into the convolution before it.

``gamma * (conv(x) - mean) / sqrt(variance + epsilon) + beta`` is a convolution too: each output
channel's weights times ``gamma / sqrt(variance + epsilon)``, and a bias. The products are made in
float64, so that the float32 weights are right to their last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import attribute

if TYPE_CHECKING:
    import onnx

    from cellseg.export.onnx_graph.graph import Graph

__all__ = ["FoldBatchNorm"]

_OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1}  # of the weights


class FoldBatchNorm:
    """Conv or ConvTranspose, then BatchNormalization, becomes one node."""

    name = "fold batchnorm"

    def requires(self, graph: Graph) -> None:
        """Need constant statistics, as every trained model has."""
        for node in graph.of_type("BatchNormalization"):
            if any(graph.constant(name) is None for name in node.input[1:]):
                raise ExportError(
                    f"BatchNormalization must have constant statistics. Received: {node.name!r}."
                )

    def apply(self, graph: Graph) -> int:
        """Fold wherever the convolution feeds nothing else."""
        changes = 0
        for norm in graph.of_type("BatchNormalization"):
            conv = self._foldable(graph, norm)
            if conv is not None:
                self._fold(graph, conv, norm)
                changes += 1
        return changes

    def ensures(self, graph: Graph) -> None:
        """Leave no BatchNormalization right after a convolution that feeds only it."""
        left = [n.name for n in graph.of_type("BatchNormalization") if self._foldable(graph, n)]
        if left:
            raise ExportError(f"Every BatchNormalization must be folded. Received: {left} left.")

    @staticmethod
    def _foldable(graph: Graph, norm: onnx.NodeProto) -> onnx.NodeProto | None:
        conv = graph.producer(norm.input[0])
        if conv is None or conv.op_type not in _OUTPUT_AXIS:
            return None
        if conv.op_type == "ConvTranspose" and attribute(conv, "group", 1) != 1:
            return None  # its axis 1 counts the channels of one group only
        return conv if graph.sole_consumer(norm.input[0]) is not None else None

    @staticmethod
    def _fold(graph: Graph, conv: onnx.NodeProto, norm: onnx.NodeProto) -> None:
        gamma, beta, mean, variance = (_float64(graph, name) for name in norm.input[1:5])
        factor = gamma / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
        weights = _float64(graph, conv.input[1])
        bias = _float64(graph, conv.input[2]) if len(conv.input) > 2 else np.zeros_like(mean)
        axis = _OUTPUT_AXIS[conv.op_type]
        shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
        folded = helper.make_node(
            conv.op_type,
            [
                conv.input[0],
                _add(graph, f"{conv.name}/folded_kernel", weights * factor.reshape(shape)),
                _add(graph, f"{conv.name}/folded_bias", (bias - mean) * factor + beta),
            ],
            [norm.output[0]],
            conv.name,
        )
        folded.attribute.extend(conv.attribute)
        graph.replace(conv, [])
        graph.replace(norm, [folded])


def _float64(graph: Graph, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    value = graph.constant(name)
    if value is None:
        raise ExportError(f"Weights must be constant. Received: {name!r}.")
    return value.astype(np.float64)


def _add(graph: Graph, name: str, value: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    return graph.add_constant(name, value.astype(np.float32))
