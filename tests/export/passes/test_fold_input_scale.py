from __future__ import annotations

import numpy as np
import pytest

from cellseg.export.passes import run_pass
from cellseg.export.passes.fold_input_scale import FoldInputScale
from tests.export.graphs import Sketch, noise, ops, run_onnx


@pytest.mark.parametrize("scale", [1 / 255, [1 / 255, 0.5, 2.0]], ids=["one", "by channel"])
def test_scale_goes_into_the_weights(scale: float | list[float]) -> None:
    model = Sketch().by_constant("Mul", scale).conv(4).model()
    folded = run_pass(FoldInputScale(), model).model
    assert ops(folded) == ["Transpose", "Cast", "Conv", "Transpose"]
    images = noise(1, 8, 6)
    np.testing.assert_allclose(run_onnx(folded, images), run_onnx(model, images), rtol=1e-5)


def test_offset_keeps_the_zeros_that_keras_pads_with() -> None:
    model = Sketch().by_constant("Mul", 1 / 127.5).by_constant("Add", -1.0).conv(4, 5).model()
    folded = run_pass(FoldInputScale(), model).model
    assert ops(folded) == ["Transpose", "Cast", "Add", "Conv", "Transpose"]
    images = noise(1, 8, 6)  # the whole image is border for a kernel of 5
    found, expected = run_onnx(folded, images), run_onnx(model, images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_scale_stays_where_something_else_reads_the_scaled_image() -> None:
    sketch = Sketch().by_constant("Mul", 1 / 255)
    scaled = sketch.value
    sketch.conv(3)
    model = sketch.node("Add", [sketch.value, scaled]).model()
    assert run_pass(FoldInputScale(), model).changes == 0


def test_graph_without_scale_is_left_alone() -> None:
    assert run_pass(FoldInputScale(), Sketch().conv(3).model()).changes == 0
