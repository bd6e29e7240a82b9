"""Brings DepthToSpace into the one layout that every format has.

Torch's PixelShuffle reads channel ``c * s * s + i * s + j`` for pixel (i, j) of a block (CRD);
TensorFlow, and the passes here, read ``(i * s + j) * C + c`` (DCR). The channels are put into that
order where the convolution makes them; elsewhere a Gather does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import attribute
from cellseg.export.passes.conv_transpose import POINTWISE

if TYPE_CHECKING:
    import onnx

    from cellseg.export.onnx_graph.graph import Graph

__all__ = ["BlocksByDepth"]


class BlocksByDepth:
    """DepthToSpace of mode CRD becomes DCR."""

    name = "blocks by depth"

    def requires(self, graph: Graph) -> None:
        """Need a convolution before each, whose channels can be counted."""
        for node in _of_columns(graph):
            if _maker(graph, node) is None:
                raise ExportError(
                    "Before a DepthToSpace of mode CRD there must be a convolution that feeds "
                    f"only it. Received: {node.name!r}.",
                    hint="Put a 1x1 convolution in front of that PixelShuffle.",
                )

    def apply(self, graph: Graph) -> int:
        """Reorder the channels of the convolutions."""
        nodes = _of_columns(graph)
        for node in nodes:
            conv = _maker(graph, node)
            assert conv is not None  # requires has looked
            self._reorder(graph, conv, attribute(node, "blocksize") ** 2)
            kept = [item for item in node.attribute if item.name != "mode"]
            made = helper.make_node("DepthToSpace", [*node.input], [*node.output], node.name)
            made.attribute.extend([*kept, helper.make_attribute("mode", "DCR")])
            graph.replace(node, [made])
        return len(nodes)

    def ensures(self, graph: Graph) -> None:
        """Leave none of the other mode."""
        left = [node.name for node in _of_columns(graph)]
        if left:
            raise ExportError(f"Every DepthToSpace must be DCR. Received: {left} left.")

    @staticmethod
    def _reorder(graph: Graph, conv: onnx.NodeProto, pixels: int) -> None:
        for place in range(1, len(conv.input)):
            value = graph.constant(conv.input[place])
            assert value is not None  # _maker has looked
            blocks = value.reshape(-1, pixels, *value.shape[1:]).swapaxes(0, 1)
            conv.input[place] = graph.add_constant(
                f"{conv.name}/by_depth", np.ascontiguousarray(blocks.reshape(value.shape))
            )


def _of_columns(graph: Graph) -> list[onnx.NodeProto]:
    return [
        node for node in graph.of_type("DepthToSpace") if attribute(node, "mode", b"DCR") == b"CRD"
    ]


def _maker(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """Return the convolution whose channels a DepthToSpace spreads; None if others read them."""
    tensor = node.input[0]
    while (maker := graph.producer(tensor)) is not None and maker.op_type in POINTWISE:
        tensor = maker.input[0] if graph.sole_consumer(tensor) is not None else ""
    if maker is None or maker.op_type != "Conv" or graph.sole_consumer(tensor) is None:
        return None
    plain = attribute(maker, "group", 1) == 1
    known = all(graph.constant(name) is not None for name in maker.input[1:])
    return maker if plain and known else None
