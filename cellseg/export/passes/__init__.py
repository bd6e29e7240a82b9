"""Graph passes: each a rewrite that keeps every number, in a file of its own.

A pass says what it needs of a graph (``requires``), does it (``apply``), and says what holds
afterwards (``ensures``). `run_pass` runs the three around a copy, so that a pass that fails leaves
nothing half done.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import onnx

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["GraphPass", "PassResult", "run_pass", "run_passes"]

_LOG = logging.getLogger(__name__)


class GraphPass(Protocol):
    """One rewrite of a graph."""

    @property
    def name(self) -> str:
        """What it does, in two or three words."""
        ...

    def requires(self, graph: Graph) -> None:
        """Raise ExportError unless the graph is what the pass can work on."""
        ...

    def apply(self, graph: Graph) -> int:
        """Rewrite in place; returns the number of changes."""
        ...

    def ensures(self, graph: Graph) -> None:
        """Raise ExportError unless the pass has done what it promises."""
        ...


@dataclass(frozen=True)
class PassResult:
    """A rewritten model."""

    model: onnx.ModelProto
    changes: int


def run_pass(rewrite: GraphPass, model: onnx.ModelProto) -> PassResult:
    """Run one pass on a copy of the model, with its conditions and ONNX's own check.

    Raises
    ------
    ExportError
        If a condition does not hold, or the result is not valid ONNX.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    rewrite.requires(graph)
    changes = rewrite.apply(graph)
    graph.drop_unused()
    rewrite.ensures(graph)
    try:
        onnx.checker.check_model(copy, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"The pass {rewrite.name!r} must leave a valid graph. Received: {error}."
        ) from error
    _LOG.debug("pass %s: %d changes", rewrite.name, changes)
    return PassResult(copy, changes)


def run_passes(rewrites: Iterable[GraphPass], model: onnx.ModelProto) -> onnx.ModelProto:
    """Run passes one after the other."""
    for rewrite in rewrites:
        model = run_pass(rewrite, model).model
    return model
