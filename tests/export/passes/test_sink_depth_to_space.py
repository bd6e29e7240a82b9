from __future__ import annotations

import numpy as np
import pytest

from cellseg.errors import ExportError
from cellseg.export.passes import run_pass, run_passes
from cellseg.export.passes.conv_transpose import ConvTransposeToDepthToSpace
from cellseg.export.passes.sink_depth_to_space import SinkDepthToSpace
from tests.export.graphs import Sketch, noise, ops, run_onnx

PASSES = (ConvTransposeToDepthToSpace(), SinkDepthToSpace())


def test_narrow_head_runs_before_the_blocks_are_spread() -> None:
    model = Sketch().conv(4, 3, 2).conv_transpose(8).node("Relu").conv(3, 1).model()
    sunk = run_passes(PASSES, model)
    assert ops(sunk)[2:] == ["Conv", "Conv", "Relu", "Conv", "DepthToSpace", "Transpose"]
    images = noise(1, 8, 12)
    np.testing.assert_allclose(run_onnx(sunk, images), run_onnx(model, images), rtol=1e-5)


def test_two_heads_both_sink() -> None:
    sketch = Sketch().conv_transpose(8)
    shared = sketch.value
    first = sketch.conv(3, 1).value
    sketch.value, sketch.channels = shared, 8
    second = sketch.conv(1, 1).value
    sketch.channels = 4
    model = sketch.node("Concat", [first, second], axis=1).model()
    sunk = run_passes(PASSES, model)
    assert ops(sunk).count("DepthToSpace") == 2
    images = noise(1, 4, 6)
    np.testing.assert_allclose(run_onnx(sunk, images), run_onnx(model, images), rtol=1e-5)


@pytest.mark.parametrize(
    "sketch",
    [Sketch().conv_transpose(4).conv(3, 3), Sketch().conv_transpose(4).conv(4, 1)],
    ids=["wide kernel", "no fewer channels"],
)
def test_what_does_not_pay_stays(sketch: Sketch) -> None:
    model = run_pass(ConvTransposeToDepthToSpace(), sketch.model()).model
    assert run_pass(SinkDepthToSpace(), model).changes == 0


def test_other_layout_is_refused() -> None:
    sketch = Sketch().conv(8).node("DepthToSpace", blocksize=2, mode="CRD")
    sketch.channels = 2
    with pytest.raises(ExportError, match="must be DCR"):
        run_pass(SinkDepthToSpace(), sketch.model())
