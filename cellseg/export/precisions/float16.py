"""The float graph in float16, as GPUs compute it: weights, activations, and nothing left to guess.

TensorRT 11 and later reads precision off the graph, so every tensor is typed: the image comes in as
bytes and is cast to float16 before anything else, the probabilities go out as float32. A value
above 65504 would become infinite; so the largest one that representative tiles bring forth is
looked up for every layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import attribute
from cellseg.export.passes import run_passes
from cellseg.export.passes.cast_first import CastFirst

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellseg.export.onnx_graph.graph import Graph
    from cellseg.export.precisions.ranges import Distribution

__all__ = ["LARGEST", "Largest", "ToFloat16", "find_largest", "to_float16"]

LARGEST = float(np.finfo(np.float16).max)
_FLOAT32_OPERANDS = {"Resize": (2,)}  # scales, which ONNX wants in float32


@dataclass(frozen=True)
class Largest:
    """The largest value of a network."""

    value: float
    """Its magnitude."""

    layer: str
    """Name of the node that computes it."""


def to_float16(
    model: onnx.ModelProto, distributions: Mapping[str, Distribution]
) -> tuple[onnx.ModelProto, Largest]:
    """Turn a float graph into float16.

    Parameters
    ----------
    model : onnx.ModelProto
        The float graph after all passes.
    distributions : mapping of str to Distribution
        Of its tensors, from `cellseg.export.precisions.ranges.collect_distributions`.

    Returns
    -------
    onnx.ModelProto
        uint8 (N, H, W, 3) to float32 (N, H, W, C), float16 in between.
    Largest
        The largest activation that was met.

    Raises
    ------
    ExportError
        If an activation or a weight is above 65504; the layer is named.
    """
    largest = find_largest(model, distributions)
    if largest.value > LARGEST:
        raise ExportError(
            f"float16 holds values up to {LARGEST:.0f}. Received: {largest.value:.4g} computed by "
            f"{largest.layer!r} on representative tiles.",
            hint="Leave fp16 out of --precision, or train with BatchNormalization.",
        )
    return run_passes((CastFirst(), ToFloat16()), model), largest


def find_largest(model: onnx.ModelProto, distributions: Mapping[str, Distribution]) -> Largest:
    """Find the largest activation, and the layer that computes it."""
    found = [
        Largest(max(abs(values.low), abs(values.high)), node.name)
        for node in model.graph.node
        if node.op_type not in ("Cast", "Transpose")
        and (values := distributions.get(node.output[0])) is not None
    ]
    return max(found, key=lambda item: item.value)


class ToFloat16:
    """Every float32 tensor but the output becomes float16."""

    name = "to float16"

    def requires(self, graph: Graph) -> None:
        """Need weights that float16 can hold."""
        for tensor in _float_constants(graph):
            value = float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
            if not value <= LARGEST:
                raise ExportError(
                    f"float16 holds values up to {LARGEST:.0f}. "
                    f"Received: {value:.4g} in the weights {tensor.name!r}."
                )

    def apply(self, graph: Graph) -> int:
        """Convert constants and casts, and cast the output back."""
        constants = _float_constants(graph)
        for tensor in constants:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
        for node in graph.of_type("Cast"):
            if attribute(node, "to") == TensorProto.FLOAT:
                node.attribute[0].i = TensorProto.FLOAT16
        _cast_output(graph)
        return len(constants)

    def ensures(self, graph: Graph) -> None:
        """Leave float32 nowhere but at the output."""
        inferred = onnx.shape_inference.infer_shapes(graph.model, strict_mode=True)
        left = [
            value.name
            for value in inferred.graph.value_info
            if value.type.tensor_type.elem_type == TensorProto.FLOAT
        ]
        if left:
            raise ExportError(f"Every tensor must be float16. Received: {left[0]!r} in float32.")


def _float_constants(graph: Graph) -> list[onnx.TensorProto]:
    kept = {
        node.input[index]
        for op, places in _FLOAT32_OPERANDS.items()
        for node in graph.of_type(op)
        for index in places
    }
    return [
        tensor
        for tensor in graph.model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept
    ]


def _cast_output(graph: Graph) -> None:
    last = graph.producer(graph.output)
    assert last is not None  # ONNX's checker has looked
    half = f"{graph.output}/float16"
    output = graph.output
    last.output[0] = half
    cast = helper.make_node("Cast", [half], [output], f"{output}/float32", to=TensorProto.FLOAT)
    graph.model.graph.node.append(cast)
