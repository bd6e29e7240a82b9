from __future__ import annotations

import numpy as np

from cellseg.export.passes import run_pass
from cellseg.export.passes.spell_out_softmax import SpellOutSoftmax
from tests.export.graphs import Sketch, noise, ops, run_onnx


def test_numbers_stay_even_where_exp_would_overflow() -> None:
    model = (
        Sketch().conv(3, 1).by_constant("Mul", [1.0, 0.1, 100.0]).node("Softmax", axis=1).model()
    )
    spelled = run_pass(SpellOutSoftmax(), model).model
    assert "Softmax" not in ops(spelled)
    found = run_onnx(spelled, noise(1, 8, 8))
    np.testing.assert_allclose(found, run_onnx(model, noise(1, 8, 8)), atol=1e-6)
    assert np.isfinite(found).all()


def test_softmax_over_another_axis_stays() -> None:
    model = Sketch().conv(3, 1).node("Softmax", axis=3).model()
    assert run_pass(SpellOutSoftmax(), model).changes == 0
