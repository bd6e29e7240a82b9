from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cellseg.export.passes import run_pass
from cellseg.export.passes.fold_batchnorm import FoldBatchNorm
from tests.export.graphs import Sketch, noise, ops, run_onnx

if TYPE_CHECKING:
    import onnx


@pytest.mark.parametrize(
    "model",
    [
        Sketch().conv(5, 3).batch_norm().model(),
        Sketch().conv_transpose(4).batch_norm().model(),
        Sketch().conv(4).batch_norm().node("Relu").conv(2, 1).batch_norm().model(),
    ],
    ids=["conv", "transposed", "two"],
)
def test_batchnorm_disappears_and_numbers_stay(model: onnx.ModelProto) -> None:
    folded = run_pass(FoldBatchNorm(), model).model
    assert "BatchNormalization" not in ops(folded)
    images = noise(1, 8, 6)
    np.testing.assert_allclose(run_onnx(folded, images), run_onnx(model, images), rtol=2e-5)


def test_batchnorm_stays_where_the_convolution_feeds_something_else_too() -> None:
    sketch = Sketch().conv(4)
    raw = sketch.value
    sketch.batch_norm()
    model = sketch.node("Add", [sketch.value, raw]).model()
    assert run_pass(FoldBatchNorm(), model).changes == 0


def test_batchnorm_before_a_convolution_stays() -> None:
    model = Sketch().batch_norm().conv(4).model()
    assert run_pass(FoldBatchNorm(), model).changes == 0
