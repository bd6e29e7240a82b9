"""The image is cast before it is turned to planes, and nothing else changes."""

from __future__ import annotations

import numpy as np

from cellseg.export.passes import run_pass
from cellseg.export.passes.cast_first import CastFirst
from tests.export.graphs import Sketch, noise, ops, run_onnx


def test_cast_comes_first_and_every_number_stays() -> None:
    model = Sketch().conv(4).node("Relu").model()
    result = run_pass(CastFirst(), model)
    assert ops(result.model)[:3] == ["Cast", "Transpose", "Conv"]
    images = noise(2, 16, 12)
    np.testing.assert_array_equal(run_onnx(model, images), run_onnx(result.model, images))


def test_second_time_changes_nothing() -> None:
    once = run_pass(CastFirst(), Sketch().conv(4).model()).model
    assert run_pass(CastFirst(), once).changes == 0
