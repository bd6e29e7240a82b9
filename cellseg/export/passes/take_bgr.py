"""Turns the image's channels around in front, for a network that was trained on BGR.

OpenCV reads files as blue, green, red, and many networks were trained on what it read. A bundle's
graph takes RGB, whoever made it::

    image -> Transpose -> Cast -> ...
    image -> Transpose -> Cast -> Gather (2, 1, 0) -> ...

`FoldChannelOrder` then moves the Gather into the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from cellseg.errors import ExportError

if TYPE_CHECKING:
    from cellseg.export.onnx_graph.graph import Graph

__all__ = ["TakeBgr"]


class TakeBgr:
    """Whoever read the image's planes reads them in the other order."""

    name = "take bgr"

    def requires(self, graph: Graph) -> None:
        """Need one Cast of the image, of planes."""
        cast = graph.image_cast
        before = None if cast is None else graph.producer(cast.input[0])
        if before is None or before.op_type != "Transpose":
            raise ExportError("The image must be cast as planes. Received: another beginning.")

    def apply(self, graph: Graph) -> int:
        """Put a Gather behind the Cast."""
        cast = graph.image_cast
        assert cast is not None  # requires has looked
        values, turned = cast.output[0], "input/bgr"
        for node in graph.consumers(values):
            for place, name in enumerate(node.input):
                if name == values:
                    node.input[place] = turned
        order = graph.add_constant("input/bgr_order", np.array([2, 1, 0], np.int64))
        gather = helper.make_node("Gather", [values, order], [turned], turned, axis=1)
        graph.model.graph.node.insert(graph.nodes.index(cast) + 1, gather)
        return 1

    def ensures(self, graph: Graph) -> None:
        """Leave nobody who reads the image as it comes."""
        cast = graph.image_cast
        reader = None if cast is None else graph.sole_consumer(cast.output[0])
        if reader is None or reader.op_type != "Gather":
            raise ExportError("Every layer must read BGR. Received: one that reads RGB.")
