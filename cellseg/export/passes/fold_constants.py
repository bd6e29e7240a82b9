"""Computes what depends on constants only: pads and weights that exporters leave as operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper, numpy_helper

from cellseg.errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.export.onnx_graph.graph import Graph

__all__ = ["FoldConstants"]

_RANDOM = ("Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike")


class FoldConstants:
    """Operators whose operands are all constants become constants."""

    name = "fold constants"

    def requires(self, graph: Graph) -> None:
        """Need nothing."""

    def apply(self, graph: Graph) -> int:
        """Compute them in their order; returns how many."""
        known = {item.name: item for item in graph.model.graph.initializer}
        folded = 0
        for node in graph.nodes:
            if _is_constant(node, known):
                for name, value in _computed(node, known).items():
                    tensor = numpy_helper.from_array(value, name)
                    graph.model.graph.initializer.append(tensor)
                    known[name] = tensor
                graph.replace(node, [])
                folded += 1
        return folded

    def ensures(self, graph: Graph) -> None:
        """Leave none."""
        known = {item.name: item for item in graph.model.graph.initializer}
        left = [node.name for node in graph.nodes if _is_constant(node, known)]
        if left:
            raise ExportError(f"What is constant must be folded. Received: {left} left.")


def _is_constant(node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> bool:
    given = [name for name in node.input if name]
    return bool(given) and node.op_type not in _RANDOM and all(name in known for name in given)


def _computed(node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> dict[str, NDArray[Any]]:
    """Compute one node by ONNX's own reference."""
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.output if name]
    made = [onnx.ValueInfoProto(name=name) for name in names]
    weights = [known[name] for name in dict.fromkeys(node.input) if name]
    graph = helper.make_graph([node], "constant", [], made, weights)
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return dict(zip(names, ReferenceEvaluator(model).run(None, {}), strict=True))
