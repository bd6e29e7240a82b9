"""Folds the order of the image's channels into the first convolution.

The network computes ``conv(scale * x[order] + offset)``. Taking the weights, and what is scaled or
added by channel, in the opposite order gives the same from x as it is::

    Cast -> Gather -> Mul -> Add -> Conv    becomes   Cast -> Mul -> Add -> Conv

Where something else than convolutions reads the image, the Gather stays: it costs a copy of the
image, and every number is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import attribute

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from cellseg.export.onnx_graph.graph import Graph

__all__ = ["FoldChannelOrder"]


@dataclass(frozen=True)
class _Order:
    """A Gather of the image's channels, and what it can be folded into."""

    gather: onnx.NodeProto
    back: NDArray[np.int64]
    """Undoes the order, shape (3,)."""
    by_channel: tuple[tuple[onnx.NodeProto, str], ...]
    """Mul and Add nodes behind it, with the constant of each."""
    convs: tuple[onnx.NodeProto, ...]
    """All that read what they give."""


class FoldChannelOrder:
    """The order of the image's channels moves into the weights of the first convolution."""

    name = "fold channel order"

    def requires(self, graph: Graph) -> None:
        """Need one Cast of the input to float."""
        if graph.image_cast is None:
            raise ExportError("The image must be cast to float once. Received: another beginning.")

    def apply(self, graph: Graph) -> int:
        """Fold if only convolutions read the image."""
        found = _find(graph)
        if found is None:
            return 0
        for node, name in found.by_channel:
            _use(graph, node, name, found.back, axis=-3)
        for conv in found.convs:
            _use(graph, conv, conv.input[1], found.back, axis=1)
        graph.bypass(found.gather, found.gather.input[0])
        return 1

    def ensures(self, graph: Graph) -> None:
        """Leave no order in front of a convolution."""
        if _find(graph) is not None:
            raise ExportError("The channels' order must be folded. Received: a Gather is left.")


def _find(graph: Graph) -> _Order | None:
    cast = graph.image_cast
    gather = None if cast is None else graph.sole_consumer(cast.output[0])
    if gather is None or gather.op_type != "Gather" or attribute(gather, "axis", 0) != 1:
        return None
    order = graph.constant(gather.input[1])
    if order is None or sorted(order.reshape(-1).tolist()) != [0, 1, 2]:
        return None
    result, by_channel = gather.output[0], []
    while (node := graph.sole_consumer(result)) is not None and node.op_type in ("Mul", "Add"):
        names = [name for name in node.input if name != result]
        value = graph.constant(names[0]) if len(names) == 1 else None
        if value is None or value.size not in (1, 3):
            return None
        if value.size == 3:
            by_channel.append((node, names[0]))
        result = node.output[0]
    convs = tuple(graph.consumers(result))
    if not convs or not all(_is_foldable(graph, conv, result) for conv in convs):
        return None
    return _Order(gather, np.argsort(order.reshape(-1)), tuple(by_channel), convs)


def _is_foldable(graph: Graph, node: onnx.NodeProto, image: str) -> bool:
    return bool(
        node.op_type == "Conv"
        and node.input[0] == image
        and attribute(node, "group", 1) == 1
        and graph.constant(node.input[1]) is not None
    )


def _use(graph: Graph, node: onnx.NodeProto, name: str, back: NDArray[np.int64], axis: int) -> None:
    """Let a node use a constant with its channels in the opposite order."""
    value = graph.constant(name)
    assert value is not None  # _find has looked
    turned = graph.add_constant(f"{name}/rgb", np.take(value, back, axis=axis))
    node.input[list(node.input).index(name)] = turned
