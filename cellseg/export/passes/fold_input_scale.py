"""Folds the scaling of the input into the first convolution.

The network computes ``conv(scale * x + offset)`` from bytes x. The scale goes into the weights;
what is left of the offset is one addition, ``conv'(x + offset / scale)``. The offset cannot go into
the bias: "same" padding puts zeros around the *scaled* image, and a bias would stand for another
value there. Zero stays zero under the scale, so the scale may go::

    Cast -> Mul -> Conv           becomes   Cast -> Conv
    Cast -> Mul -> Add -> Conv    becomes   Cast -> Add -> Conv
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import attribute

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from cellseg.export.onnx_graph.graph import Graph

__all__ = ["FoldInputScale"]


@dataclass(frozen=True)
class _Scaling:
    """What lies between the Cast of the input and the first convolutions."""

    source: str
    """Output of the Cast."""
    result: str
    """What the convolutions read."""
    scale: NDArray[np.float64]
    """Shape (3,)."""
    offset: NDArray[np.float64]
    """Shape (3,)."""


class FoldInputScale:
    """Scaling of the input moves into the weights of the first convolution."""

    name = "fold input scale"

    def requires(self, graph: Graph) -> None:
        """Need one Cast of the input to float."""
        if graph.image_cast is None:
            raise ExportError("The image must be cast to float once. Received: another beginning.")

    def apply(self, graph: Graph) -> int:
        """Fold if only convolutions read the scaled image."""
        scaling = _find_scaling(graph)
        if scaling is None or not self._foldable(graph, scaling):
            return 0
        source = self._add_offset(graph, scaling)
        for conv in graph.consumers(scaling.result):
            weights = graph.constant(conv.input[1])
            assert weights is not None  # _foldable has looked
            scaled = weights.astype(np.float64) * scaling.scale.reshape(1, -1, 1, 1)
            conv.input[0] = source
            conv.input[1] = graph.add_constant(
                f"{conv.name}/scaled_kernel", scaled.astype(np.float32)
            )
        return 1

    def ensures(self, graph: Graph) -> None:
        """Leave no scale in front of a convolution."""
        scaling = _find_scaling(graph)
        if scaling is not None and self._foldable(graph, scaling):
            raise ExportError("The input's scale must be folded. Received: a scale is left.")

    @staticmethod
    def _foldable(graph: Graph, scaling: _Scaling) -> bool:
        return bool((scaling.scale != 1.0).any() and (scaling.scale != 0.0).all()) and all(
            node.op_type == "Conv"
            and node.input[0] == scaling.result
            and attribute(node, "group", 1) == 1
            and graph.constant(node.input[1]) is not None
            for node in graph.consumers(scaling.result)
        )

    @staticmethod
    def _add_offset(graph: Graph, scaling: _Scaling) -> str:
        if not scaling.offset.any():
            return scaling.source
        shift = (scaling.offset / scaling.scale).astype(np.float32).reshape(-1, 1, 1)
        by = graph.add_constant("input/shift_by", shift)
        cast = graph.producer(scaling.source)
        assert cast is not None  # requires has looked
        add = helper.make_node("Add", [scaling.source, by], ["input/shift"], "input/shift")
        graph.replace(cast, [_copy(cast), add])
        return "input/shift"


def _find_scaling(graph: Graph) -> _Scaling | None:
    """Follow Mul and Add by constants from the Cast on."""
    cast = graph.image_cast
    if cast is None:
        return None
    source = result = cast.output[0]
    scale: NDArray[np.float64] = np.ones(3)
    offset: NDArray[np.float64] = np.zeros(3)
    while (node := graph.sole_consumer(result)) is not None and node.op_type in ("Mul", "Add"):
        values = [graph.constant(name) for name in node.input if name != result]
        if len(values) != 1 or values[0] is None or values[0].size not in (1, 3):
            break
        value = np.broadcast_to(values[0].astype(np.float64).reshape(-1), 3)
        if node.op_type == "Mul":
            scale, offset = scale * value, offset * value
        else:
            offset = offset + value
        result = node.output[0]
    return _Scaling(source, result, scale, offset)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy
