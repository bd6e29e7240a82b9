"""Lets a Resize say its factor, where it was told a size that other operators compute.

``interpolate(x, size=skip.shape[2:])`` becomes a computation with shapes, or a fixed size where the
image's was fixed. Run at two sizes, it shows what it does: the same whole factor every time::

    Shape -> Slice -> Concat -> Resize(sizes)   becomes   Resize(scales=[1, 1, 2, 2])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from cellseg.export.onnx_graph.graph import Graph

    Shapes = Mapping[str, tuple[int, ...]]

__all__ = ["SettleSizes", "unsettled"]


class SettleSizes:
    """Resize to a size becomes Resize by a factor.

    Parameters
    ----------
    runs : sequence of mapping of str to tuple of int
        Shapes of what these nodes read and make, for images of unlike sizes.
    """

    name = "settle sizes"

    def __init__(self, runs: Sequence[Shapes]) -> None:
        self._runs = runs

    def requires(self, graph: Graph) -> None:
        """Need nothing."""

    def apply(self, graph: Graph) -> int:
        """Rewrite those whose factor is the same in every run."""
        settled = 0
        for node in unsettled(graph):
            factors = {_factors(run, node) for run in self._runs}
            if len(factors) == 1 and None not in factors:
                (factor,) = factors
                scales = graph.add_constant(f"{node.name}/scales", np.array(factor, np.float32))
                made = helper.make_node(
                    "Resize", [node.input[0], "", scales], [*node.output], node.name
                )
                made.attribute.extend(node.attribute)
                graph.replace(node, [made])
                settled += 1
        return settled

    def ensures(self, graph: Graph) -> None:
        """Promise nothing: what looks at the whole tile has no factor."""


def unsettled(graph: Graph) -> list[onnx.NodeProto]:
    """Resize nodes whose factors are not constants."""
    return [node for node in graph.of_type("Resize") if not _has_factors(graph, node)]


def _has_factors(graph: Graph, node: onnx.NodeProto) -> bool:
    scales = graph.constant(node.input[2]) if len(node.input) > 2 else None
    return scales is not None and scales.size == 4


def _factors(run: Shapes, node: onnx.NodeProto) -> tuple[float, ...] | None:
    before, after = run[node.input[0]], run[node.output[0]]
    if len(before) != 4 or len(after) != 4 or 0 in before:
        return None
    return tuple(b / a for a, b in zip(before, after, strict=True))
