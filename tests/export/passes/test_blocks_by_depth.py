"""DepthToSpace of either mode gives the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.graph import Graph, attribute
from cellseg.export.passes import run_pass
from cellseg.export.passes.blocks_by_depth import BlocksByDepth
from tests.export.graphs import Sketch, noise, run_onnx


@pytest.mark.parametrize("between", [None, "Relu"])
def test_pixel_shuffle_keeps_its_numbers(between: str | None) -> None:
    sketch = Sketch().conv(12, 3, 2)
    sketch = sketch.node(between) if between else sketch
    model = sketch.node("DepthToSpace", blocksize=2, mode="CRD").model()
    model.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 3
    rewritten = run_pass(BlocksByDepth(), model)
    (spread,) = [n for n in rewritten.model.graph.node if n.op_type == "DepthToSpace"]
    assert rewritten.changes == 1
    assert attribute(spread, "mode") == b"DCR"
    images = noise(1, 8, 12)
    np.testing.assert_array_equal(run_onnx(rewritten.model, images), run_onnx(model, images))


def test_channels_that_others_read_are_not_moved() -> None:
    sketch = Sketch().conv(12, 3)
    before = sketch.value
    sketch.node("DepthToSpace", blocksize=2, mode="CRD").node("MaxPool", kernel_shape=[2, 2])
    sketch.builder.node("Relu", [before], "other")
    with pytest.raises(ExportError, match="feeds only it. Received: 'depthtospace'"):
        BlocksByDepth().requires(_graph(sketch))


def _graph(sketch: Sketch) -> Graph:
    return Graph(sketch.model())
