from __future__ import annotations

import numpy as np
import pytest

from cellseg.export.passes import run_pass
from cellseg.export.passes.conv_transpose import ConvTransposeToDepthToSpace
from tests.export.graphs import Sketch, noise, ops, run_onnx


@pytest.mark.parametrize("size", [2, 3])
def test_rewrite_is_exact(size: int) -> None:
    model = Sketch().conv_transpose(5, size, size).model()
    rewritten = run_pass(ConvTransposeToDepthToSpace(), model).model
    assert ops(rewritten) == ["Transpose", "Cast", "Conv", "DepthToSpace", "Transpose"]
    images = noise(2, 4, 6)
    np.testing.assert_allclose(run_onnx(rewritten, images), run_onnx(model, images), rtol=1e-6)


def test_activation_moves_in_front_of_the_blocks() -> None:
    model = Sketch().conv_transpose(4).node("Relu").model()
    rewritten = run_pass(ConvTransposeToDepthToSpace(), model).model
    assert ops(rewritten)[2:5] == ["Conv", "Relu", "DepthToSpace"]
    images = noise(1, 4, 6)
    np.testing.assert_allclose(run_onnx(rewritten, images), run_onnx(model, images), rtol=1e-6)


def test_overlapping_blocks_stay_as_they_are() -> None:
    model = Sketch().conv_transpose(4, kernel=4, stride=2).model()
    assert run_pass(ConvTransposeToDepthToSpace(), model).changes == 0
