"""A network trained on BGR takes RGB, and computes what it computed."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg.errors import ExportError
from cellseg.export.passes import run_pass, run_passes
from cellseg.export.passes.fold_channel_order import FoldChannelOrder
from cellseg.export.passes.fold_input_scale import FoldInputScale
from cellseg.export.passes.take_bgr import TakeBgr
from tests.export.graphs import Sketch, noise, ops, run_onnx

BY_CHANNEL = [0.5, 1.0, 2.0]


def test_image_is_taken_the_other_way_round() -> None:
    model = Sketch().by_constant("Mul", BY_CHANNEL).conv(4).model()
    images = noise(2, 8, 6)
    found = run_onnx(run_pass(TakeBgr(), model).model, images)
    np.testing.assert_array_equal(found, run_onnx(model, images[..., ::-1].copy()))


def test_order_goes_into_the_weights_past_scale_and_offset() -> None:
    sketch = Sketch().by_constant("Mul", BY_CHANNEL).by_constant("Add", [-1.0, 0.0, 3.0])
    model = sketch.conv(4, 5).model()
    folded = run_passes((TakeBgr(), FoldChannelOrder()), model)
    assert ops(folded) == ops(model)  # nothing is left to do at run time
    images = noise(1, 8, 6)
    found, expected = run_onnx(folded, images), run_onnx(model, images[..., ::-1].copy())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_order_and_scale_are_both_folded() -> None:
    model = Sketch().by_constant("Mul", BY_CHANNEL).conv(4).model()
    folded = run_passes((TakeBgr(), FoldChannelOrder(), FoldInputScale()), model)
    assert ops(folded) == ["Transpose", "Cast", "Conv", "Transpose"]
    images = noise(1, 8, 6)
    found, expected = run_onnx(folded, images), run_onnx(model, images[..., ::-1].copy())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_order_stays_where_something_else_reads_the_image() -> None:
    sketch = Sketch()
    image = sketch.value
    sketch.conv(3)
    model = run_pass(TakeBgr(), sketch.node("Add", [sketch.value, image]).model()).model
    assert run_pass(FoldChannelOrder(), model).changes == 0


def test_graph_without_an_order_is_left_alone() -> None:
    assert run_pass(FoldChannelOrder(), Sketch().conv(3).model()).changes == 0


def test_order_that_was_not_folded_is_seen() -> None:
    from cellseg.export.onnx_graph.graph import Graph

    turned = run_pass(TakeBgr(), Sketch().conv(3).model()).model
    with pytest.raises(ExportError, match="a Gather is left"):
        FoldChannelOrder().ensures(Graph(turned))
    with pytest.raises(ExportError, match="one that reads RGB"):
        TakeBgr().ensures(Graph(Sketch().conv(3).model()))
