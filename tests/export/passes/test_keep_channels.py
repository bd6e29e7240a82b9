from __future__ import annotations

import numpy as np
import pytest

from cellseg.errors import ExportError
from cellseg.export.passes import run_pass
from cellseg.export.passes.keep_channels import KeepChannels
from tests.export.graphs import Sketch, noise, ops, run_onnx


def two_heads() -> Sketch:
    """Softmax over three channels beside two sigmoid channels."""
    sketch = Sketch().by_constant("Mul", 1 / 255).conv(4)
    shared = sketch.value
    classes = sketch.conv(3, 1).node("Softmax", axis=1).value
    sketch.value, sketch.channels = shared, 4
    extra = sketch.conv(2, 1).node("Sigmoid").value
    sketch.channels = 5
    return sketch.node("Concat", [classes, extra], axis=1)


@pytest.mark.parametrize("keep", [[0, 1, 2], [1, 4], [3, 4], [2], [0, 3], [0, 1, 2, 3, 4]], ids=str)
def test_kept_channels_keep_their_numbers(keep: list[int]) -> None:
    model = two_heads().model()
    kept = run_pass(KeepChannels(keep), model).model
    expected = run_onnx(model, noise(1, 8, 8))[..., keep]
    np.testing.assert_allclose(run_onnx(kept, noise(1, 8, 8)), expected, atol=1e-6)


def test_branch_that_nobody_reads_is_not_computed() -> None:
    kept = run_pass(KeepChannels([0, 1, 2]), two_heads().model()).model
    assert "Sigmoid" not in ops(kept)
    assert "Concat" not in ops(kept)
    assert ops(kept).count("Conv") == 2


@pytest.mark.parametrize("keep", [[], [1, 0], [0, 0], [5], [-1]], ids=str)
def test_channels_that_are_not_there_are_refused(keep: list[int]) -> None:
    with pytest.raises(ExportError, match="Channels to keep must"):
        run_pass(KeepChannels(keep), two_heads().model())
