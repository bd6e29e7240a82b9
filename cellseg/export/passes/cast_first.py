"""Casts the image before it is turned to planes, for parsers that only cast bytes.

TensorRT takes unsigned bytes as a network's input, but the only thing it does with them is a cast;
the transpose that CPUs rather do on bytes comes after it::

    image -> Transpose -> Cast -> ...
    image -> Cast -> Transpose -> ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.errors import ExportError

if TYPE_CHECKING:
    import onnx

    from cellseg.export.onnx_graph.graph import Graph

__all__ = ["CastFirst"]


class CastFirst:
    """Transpose and Cast of the image change places; other graphs stay as they are."""

    name = "cast first"

    def requires(self, graph: Graph) -> None:
        """Need an image that one node reads."""
        readers = graph.consumers(graph.input)
        if len(readers) != 1:
            raise ExportError(f"One node must read the image. Received: {len(readers)}.")

    def apply(self, graph: Graph) -> int:
        """Swap the two."""
        found = _find(graph)
        if found is None:
            return 0
        transpose, cast = found
        image, planes, values = transpose.input[0], transpose.output[0], cast.output[0]
        cast.input[0], cast.output[0] = image, planes
        transpose.input[0], transpose.output[0] = planes, values
        order = graph.model.graph.node
        first, second = (list(order).index(node) for node in (transpose, cast))
        swapped = [type(node)() for node in (cast, transpose)]
        swapped[0].CopyFrom(cast)
        swapped[1].CopyFrom(transpose)
        order[first].CopyFrom(swapped[0])
        order[second].CopyFrom(swapped[1])
        return 1

    def ensures(self, graph: Graph) -> None:
        """Leave no image that is transposed as bytes."""
        if _find(graph) is not None:
            raise ExportError("The image must be cast first. Received: Transpose before Cast.")


def _find(graph: Graph) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    (transpose,) = graph.consumers(graph.input)
    if transpose.op_type != "Transpose":
        return None
    cast = graph.sole_consumer(transpose.output[0])
    return (transpose, cast) if cast is not None and cast.op_type == "Cast" else None
