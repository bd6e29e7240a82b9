"""Writes out what ONNX lets a convolution or pooling leave unsaid: kernel size, strides and pads.

Other passes read these attributes. ``auto_pad`` of "same" is known in advance, since heights and
widths are multiples of the stride: ``max((k - 1) * d + 1 - s, 0)`` in all, the larger half below::

    Conv(auto_pad=SAME_UPPER, strides=[2, 2]) of 3 x 3   ->   Conv(pads=[0, 0, 1, 1], ...)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import attribute, set_attributes

if TYPE_CHECKING:
    import onnx

    from cellseg.export.onnx_graph.graph import Graph

__all__ = ["SpellOutWindows"]

_WEIGHTED, _POOLS = ("Conv", "ConvTranspose"), ("MaxPool", "AveragePool")


class SpellOutWindows:
    """Convolutions and poolings say kernel_shape, strides and pads; none says auto_pad."""

    name = "spell out windows"

    def requires(self, graph: Graph) -> None:
        """Need constant weights, and pads that are known."""
        for node in graph.of_type(*_WEIGHTED):
            if graph.constant(node.input[1]) is None:
                raise ExportError(f"Weights must be constant. Received: {node.name!r}.")
        for node in graph.of_type(*_WEIGHTED, *_POOLS):
            known = ["NOTSET", "VALID"]
            known += [] if node.op_type == "ConvTranspose" else ["SAME_UPPER"]
            found = attribute(node, "auto_pad", b"NOTSET").decode()
            if found not in known:
                raise ExportError(
                    f"auto_pad must be one of {', '.join(known)}. "
                    f"Received: {node.name!r} ({node.op_type}) with {found}.",
                    hint="Write its rows and columns of padding out as pads, and leave out "
                    "auto_pad.",
                )

    def apply(self, graph: Graph) -> int:
        """Set the three attributes of every such node."""
        nodes = [*graph.of_type(*_WEIGHTED, *_POOLS)]
        for node in nodes:
            found = {
                "kernel_shape": self._kernel(graph, node),
                "strides": list(attribute(node, "strides", [1, 1])),
            }
            found["pads"] = _pads(node, found["kernel_shape"], found["strides"])
            kept = [item for item in node.attribute if item.name not in (*found, "auto_pad")]
            kept += [helper.make_attribute(name, value) for name, value in found.items()]
            set_attributes(node, kept)
        return len(nodes)

    def ensures(self, graph: Graph) -> None:
        """Leave no auto_pad, and no size unsaid."""
        for node in graph.of_type(*_WEIGHTED, *_POOLS):
            if attribute(node, "auto_pad") is not None or attribute(node, "pads") is None:
                raise ExportError(f"Windows must be spelled out. Received: {node.name!r}.")

    @staticmethod
    def _kernel(graph: Graph, node: onnx.NodeProto) -> list[int]:
        if node.op_type in _POOLS:
            return list(attribute(node, "kernel_shape"))
        weights = graph.constant(node.input[1])
        assert weights is not None  # requires has looked
        return list(weights.shape[2:])


def _pads(node: onnx.NodeProto, kernel: list[int], strides: list[int]) -> list[int]:
    if attribute(node, "auto_pad", b"NOTSET") != b"SAME_UPPER":
        return list(attribute(node, "pads", [0, 0, 0, 0]))
    dilations = attribute(node, "dilations", [1, 1])
    total = [
        max((k - 1) * d + 1 - s, 0) for k, d, s in zip(kernel, dilations, strides, strict=True)
    ]
    before = [pad // 2 for pad in total]
    return [*before, *(pad - first for pad, first in zip(total, before, strict=True))]
