"""Lets a convolution do the padding before it.

``Pad(x) -> Conv(pads=0)`` is ``Conv(pads)`` of x, where the padding is zeros around the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import attribute

if TYPE_CHECKING:
    import onnx

    from cellseg.export.onnx_graph.graph import Graph

__all__ = ["FoldPadding"]


class FoldPadding:
    """Pad, then Conv, becomes one Conv."""

    name = "fold padding"

    def requires(self, graph: Graph) -> None:
        """Need nothing."""

    def apply(self, graph: Graph) -> int:
        """Fold wherever the padding feeds one convolution only."""
        pads = [node for node in graph.of_type("Pad") if _conv_after(graph, node) is not None]
        for pad in pads:
            conv = _conv_after(graph, pad)
            assert conv is not None  # just looked for
            self._fold(graph, pad, conv)
        return len(pads)

    def ensures(self, graph: Graph) -> None:
        """Leave no such pair."""
        left = [node.name for node in graph.of_type("Pad") if _conv_after(graph, node) is not None]
        if left:
            raise ExportError(f"Every such Pad must be folded. Received: {left} left.")

    @staticmethod
    def _fold(graph: Graph, pad: onnx.NodeProto, conv: onnx.NodeProto) -> None:
        sizes = _sizes(graph, pad)
        added = [sizes[2], sizes[3], sizes[6], sizes[7]]
        own = attribute(conv, "pads", [0, 0, 0, 0])
        kept = [item for item in conv.attribute if item.name != "pads"]
        kept.append(helper.make_attribute("pads", [a + b for a, b in zip(own, added, strict=True)]))
        folded = helper.make_node(
            "Conv", [pad.input[0], *conv.input[1:]], list(conv.output), conv.name
        )
        folded.attribute.extend(kept)
        graph.replace(conv, [folded])
        graph.replace(pad, [])


def _conv_after(graph: Graph, pad: onnx.NodeProto) -> onnx.NodeProto | None:
    """Return the convolution that a padding may go into; None if there is none."""
    after = graph.sole_consumer(pad.output[0])
    is_plain = attribute(pad, "mode", b"constant") == b"constant" and len(pad.input) == 2
    sizes = _sizes(graph, pad)
    spatial_only = not any(sizes[i] for i in (0, 1, 4, 5)) and min(sizes) >= 0
    fits = after is not None and after.op_type == "Conv" and is_plain and spatial_only
    return after if fits else None


def _sizes(graph: Graph, pad: onnx.NodeProto) -> list[int]:
    sizes = graph.constant(pad.input[1])
    return [-1] * 8 if sizes is None or sizes.size != 8 else [int(size) for size in sizes]
