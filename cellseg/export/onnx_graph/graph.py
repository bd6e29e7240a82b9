"""An ONNX graph as the passes see it: who makes a tensor, who uses it, which are constant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["Graph", "attribute", "set_attributes"]


class Graph:
    """A view on a model that a pass may change; look-ups always tell the present state.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """Nodes in their order; a copy, so the graph may change while it is walked."""
        return list(self.model.graph.node)

    @property
    def input(self) -> str:
        """Name of the only input."""
        return str(self.model.graph.input[0].name)

    @property
    def output(self) -> str:
        """Name of the only output."""
        return str(self.model.graph.output[0].name)

    def of_type(self, *ops: str) -> Iterator[onnx.NodeProto]:
        """Nodes of some operators."""
        return (node for node in self.nodes if node.op_type in ops)

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        """Node that makes a tensor; None for an input or constant."""
        return next((node for node in self.model.graph.node if tensor in node.output), None)

    def consumers(self, tensor: str) -> list[onnx.NodeProto]:
        """Nodes that use a tensor."""
        return [node for node in self.model.graph.node if tensor in node.input]

    def sole_consumer(self, tensor: str) -> onnx.NodeProto | None:
        """Return the only node that uses a tensor; None if there are others or it is the output."""
        consumers = self.consumers(tensor)
        return consumers[0] if len(consumers) == 1 and tensor != self.output else None

    @property
    def image_cast(self) -> onnx.NodeProto | None:
        """The Cast of the image to float: the first one, with no more than a Transpose before."""
        readers = self.consumers(self.input)
        if len(readers) == 1 and readers[0].op_type == "Transpose":
            readers = self.consumers(readers[0].output[0])
        casts = [node for node in readers if node.op_type == "Cast"]
        return casts[0] if len(casts) == len(readers) == 1 else None

    def constant(self, tensor: str) -> NDArray[Any] | None:
        """Value of a constant; None for any other tensor."""
        for initializer in self.model.graph.initializer:
            if initializer.name == tensor:
                return numpy_helper.to_array(initializer)
        return None

    def add_constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant under a name of its own; returns it."""
        taken = {initializer.name for initializer in self.model.graph.initializer}
        unique = next(n for n in _numbered(name) if n not in taken)
        # Not ascontiguousarray: it makes a scalar a vector, which TensorRT reads as "per channel".
        tensor = numpy_helper.from_array(np.asarray(value, order="C"), unique)
        self.model.graph.initializer.append(tensor)
        return unique

    def replace(self, old: onnx.NodeProto, new: Iterable[onnx.NodeProto]) -> None:
        """Put nodes in the place of one."""
        index = list(self.model.graph.node).index(old)
        del self.model.graph.node[index]
        for offset, node in enumerate(new):
            self.model.graph.node.insert(index + offset, node)

    def bypass(self, node: onnx.NodeProto, source: str) -> None:
        """Remove a node; those who used its output use ``source`` instead."""
        for consumer in self.consumers(node.output[0]):
            for index, name in enumerate(consumer.input):
                if name == node.output[0]:
                    consumer.input[index] = source
        self.replace(node, [])

    def drop_unused(self) -> int:
        """Remove nodes and constants that nothing leads from to the output; returns how many."""
        graph = self.model.graph
        wanted, kept = {self.output}, []
        for node in reversed(graph.node):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        constants = [item for item in graph.initializer if item.name in wanted]
        dropped = len(graph.node) + len(graph.initializer) - len(kept) - len(constants)
        nodes = [_copied(node) for node in reversed(kept)]
        constants = [_copied(item) for item in constants]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(constants)
        return dropped


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Value of a node's attribute."""
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def set_attributes(node: onnx.NodeProto, attributes: Iterable[onnx.AttributeProto]) -> None:
    """Give a node these attributes and no others; they may be its own."""
    copies = [_copied(item) for item in attributes]
    del node.attribute[:]
    node.attribute.extend(copies)


def _copied(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
