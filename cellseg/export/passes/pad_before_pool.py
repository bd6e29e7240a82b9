"""Lets a max-pooling that pads, as torch's encoders have it, be told to TensorFlow.

TensorFlow pads a pooling by "same" only, below and on the right first. Behind a rectifier nothing
is negative, so zeros around the image change no maximum::

    Relu -> MaxPool(pads=1)   becomes   Relu -> Pad(zeros) -> MaxPool
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

__all__ = ["PadBeforePool"]

_NEVER_NEGATIVE = ("Relu", "Sigmoid", "Softplus")


class PadBeforePool:
    """MaxPool with pads becomes Pad and MaxPool."""

    name = "pad before pool"

    def __init__(self) -> None:
        self.padded: dict[str, str] = {}
        """What was padded, by the name of what came of it."""

    def requires(self, graph: Graph) -> None:
        """Need nothing."""

    def apply(self, graph: Graph) -> int:
        """Rewrite those whose input is never negative."""
        nodes = [node for node in graph.of_type("MaxPool") if _can_be_padded(graph, node)]
        for node in nodes:
            top, left, bottom, right = attribute(node, "pads")
            sizes = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
            padded = f"{node.name}/padded"
            added = graph.add_constant(f"{node.name}/pads", sizes)
            pad = helper.make_node("Pad", [node.input[0], added], [padded], padded)
            pool = helper.make_node("MaxPool", [padded], [*node.output], node.name)
            pool.attribute.extend(item for item in node.attribute if item.name != "pads")
            pool.attribute.append(helper.make_attribute("pads", [0, 0, 0, 0]))
            self.padded[padded] = node.input[0]
            graph.replace(node, [pad, pool])
        return len(nodes)

    def ensures(self, graph: Graph) -> None:
        """Leave none that could be rewritten."""
        left = [node.name for node in graph.of_type("MaxPool") if _can_be_padded(graph, node)]
        if left:
            raise ExportError(f"Every such MaxPool must be rewritten. Received: {left} left.")


def _can_be_padded(graph: Graph, node: onnx.NodeProto) -> bool:
    maker = graph.producer(node.input[0])
    if maker is None or maker.op_type not in _NEVER_NEGATIVE:
        return False
    plain = not attribute(node, "ceil_mode", 0) and {*attribute(node, "dilations", [1])} == {1}
    pads = attribute(node, "pads", [0, 0, 0, 0])
    return plain and any(pads) and pads != _same_pads(node)


def _same_pads(node: onnx.NodeProto) -> list[int]:
    """Return what TensorFlow's "same" pads where sizes are multiples of the stride."""
    kernel, strides = attribute(node, "kernel_shape"), attribute(node, "strides", [1, 1])
    total = [max(size - step, 0) for size, step in zip(kernel, strides, strict=True)]
    return [*(size // 2 for size in total), *(size - size // 2 for size in total)]
