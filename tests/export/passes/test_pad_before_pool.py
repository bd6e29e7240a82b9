"""A pooling that pads what is never negative may be told zeros."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg.export.passes import run_pass
from cellseg.export.passes.pad_before_pool import PadBeforePool
from tests.export.graphs import Sketch, noise, ops, run_onnx

POOL = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}


def test_the_stem_of_an_encoder_keeps_its_numbers() -> None:
    model = (
        Sketch().conv(4, 3).by_constant("Add", -60.0).node("Relu").node("MaxPool", **POOL).model()
    )
    rewrite = PadBeforePool()
    found = run_pass(rewrite, model)
    assert found.changes == 1
    assert ops(found.model)[-3:] == ["Pad", "MaxPool", "Transpose"]
    assert rewrite.padded == {"maxpool/padded": "relu"}
    images = noise(1, 16, 12)
    np.testing.assert_array_equal(run_onnx(found.model, images), run_onnx(model, images))


@pytest.mark.parametrize(
    ("before", "changed"),
    [("Tanh", {}), ("Relu", {"ceil_mode": 1}), ("Relu", {"pads": [0, 0, 1, 1]})],
    ids=["may be negative", "ceil_mode", "same"],
)
def test_others_stay(before: str, changed: dict[str, object]) -> None:
    model = Sketch().conv(4, 3).node(before).node("MaxPool", **{**POOL, **changed}).model()
    assert run_pass(PadBeforePool(), model).changes == 0
