"""Builds an ONNX graph node by node; tensors inside are NCHW float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["INPUT", "IR_VERSION", "OPSET", "OUTPUT", "GraphBuilder"]

OPSET = 17
IR_VERSION = 8  # what opset 17 came with; parsers on Jetson read up to 9
INPUT = "image"
OUTPUT = "probabilities"


class GraphBuilder:
    """Collects nodes and constants, giving each its own name.

    Parameters
    ----------
    whole_tile : bool
        Whether layers may look at the whole tile.
    """

    def __init__(self, whole_tile: bool = False) -> None:
        self.whole_tile = whole_tile
        self.padding: dict[str, tuple[int, int]] = {}
        """Rows and columns that padding added to a tensor, before a layer that adds none."""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._names: set[str] = {INPUT, OUTPUT}

    def constant(self, array: NDArray[Any], name: str) -> str:
        """Add a constant; returns its name."""
        name = self._unique(name)
        # Not ascontiguousarray: it makes a scalar a vector.
        self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        name: str,
        output: str | None = None,
        **attributes: Any,
    ) -> str:
        """Add a node of one output; returns the output's name."""
        name = self._unique(name)
        output = output or name
        self._nodes.append(helper.make_node(op, list(inputs), [output], name, **attributes))
        return output

    def model(self, channels: int) -> onnx.ModelProto:
        """Close the graph: uint8 ``image`` (N, H, W, 3) to float32 (N, H, W, channels)."""
        graph = helper.make_graph(
            self._nodes,
            "cellseg",
            [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", "H", "W", 3])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", "H", "W", channels])],
            self._constants,
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="cellseg",
        )

    def _unique(self, name: str) -> str:
        unique, count = name, 1
        while unique in self._names:
            count += 1
            unique = f"{name}_{count}"
        self._names.add(unique)
        return unique
