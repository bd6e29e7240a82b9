"""Rewrites ConvTranspose of kernel = stride as a 1x1 Conv and DepthToSpace.

Such an upsampling has no overlaps: each input pixel gives an s x s block of its own, so the same
numbers come from a 1x1 convolution to ``s * s * C`` channels, laid out as blocks. Quantizers and
TensorRT know convolutions better than their transposed kin: ONNX Runtime keeps ConvTranspose in
float. Where an activation follows, it moves in front of DepthToSpace, so that it fuses with Conv.
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

__all__ = ["ConvTransposeToDepthToSpace"]

POINTWISE = ("Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh")


class ConvTransposeToDepthToSpace:
    """ConvTranspose with kernel = stride becomes Conv 1x1 and DepthToSpace."""

    name = "conv transpose to depth to space"

    def requires(self, graph: Graph) -> None:
        """Need constant weights."""
        for node in graph.of_type("ConvTranspose"):
            if graph.constant(node.input[1]) is None:
                raise ExportError(
                    f"ConvTranspose must have constant weights. Received: {node.name!r}."
                )

    def apply(self, graph: Graph) -> int:
        """Rewrite every ConvTranspose whose blocks do not overlap."""
        nodes = [node for node in graph.of_type("ConvTranspose") if _has_blocks(node)]
        for node in nodes:
            self._rewrite(graph, node)
        return len(nodes)

    def ensures(self, graph: Graph) -> None:
        """Leave no ConvTranspose of kernel = stride."""
        left = [node.name for node in graph.of_type("ConvTranspose") if _has_blocks(node)]
        if left:
            raise ExportError(f"Every ConvTranspose must be rewritten. Received: {left} left.")

    @staticmethod
    def _rewrite(graph: Graph, node: onnx.NodeProto) -> None:
        weights = graph.constant(node.input[1])
        assert weights is not None  # requires has looked
        channels_in, size = weights.shape[0], weights.shape[2]
        # DepthToSpace (DCR) reads channel (i * s + j) * C + c for pixel (i, j) of the block.
        kernel = weights.transpose(2, 3, 1, 0).reshape(-1, channels_in, 1, 1)
        operands = [node.input[0], graph.add_constant(f"{node.name}/blocks_kernel", kernel)]
        if len(node.input) > 2:
            bias = graph.constant(node.input[2])
            assert bias is not None
            tiled = np.tile(bias, size * size)
            operands.append(graph.add_constant(f"{node.name}/blocks_bias", tiled))
        blocks, moved = f"{node.name}/blocks", f"{node.name}/blocks_active"
        conv = helper.make_node("Conv", operands, [blocks], node.name, kernel_shape=[1, 1])
        act = graph.sole_consumer(node.output[0])
        spread_from, result, middle = blocks, node.output[0], []
        if act is not None and act.op_type in POINTWISE:
            result = act.output[0]
            spread_from = moved
            middle = [helper.make_node(act.op_type, [blocks], [moved], act.name)]
            middle[0].attribute.extend(act.attribute)
            graph.replace(act, [])
        spread = helper.make_node(
            "DepthToSpace",
            [spread_from],
            [result],
            f"{node.name}/spread",
            blocksize=size,
            mode="DCR",
        )
        graph.replace(node, [conv, *middle, spread])


def _has_blocks(node: onnx.NodeProto) -> bool:
    kernel, strides = attribute(node, "kernel_shape"), attribute(node, "strides")
    plain = attribute(node, "group", 1) == 1 and not any(attribute(node, "pads", [0]))
    return plain and kernel == strides and kernel[0] == kernel[1]
