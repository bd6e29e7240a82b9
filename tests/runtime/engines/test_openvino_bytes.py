"""Tensors that are rounded to the same bytes again and again are rounded once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")
from openvino import opset13 as ops  # noqa: E402

from cellseg.runtime.engines.openvino_bytes import round_once  # noqa: E402
from tests.openvino_graphs import Scale, rounded  # noqa: E402

if TYPE_CHECKING:
    from numpy.typing import NDArray

RNG = np.random.default_rng(5)
BELOW = RNG.normal(0, 2, (1, 8, 6, 6)).astype(np.float32)
SKIP = RNG.normal(1, 2, (1, 2, 12, 12)).astype(np.float32)

WIDE, NARROW = (0.05, 93), (0.02, 0)


def decoder(below: Scale, spread: Scale, skip: Scale, joint: Scale) -> Any:
    """Return a decoder's joint: what comes from below is spread, then put beside a skip."""
    inputs = [ops.parameter(list(array.shape), np.float32) for array in (BELOW, SKIP)]
    finer = rounded(ops.depth_to_space(rounded(inputs[0], below), "blocks_first", 2), spread)
    joined = rounded(ops.concat([finer, rounded(inputs[1], skip)], 1), joint)
    return openvino.Model([ops.result(joined)], inputs, "decoder")


def run(model: Any) -> NDArray[np.float32]:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    found: NDArray[np.float32] = compiled([BELOW, SKIP])[0]
    return found


def roundings(model: Any) -> int:
    return sum(node.get_type_name() == "FakeQuantize" for node in model.get_ordered_ops())


@pytest.mark.parametrize(
    ("scales", "left"),
    [
        pytest.param((WIDE, WIDE, NARROW, WIDE), 3, id="the skip alone is rounded to the joint's"),
        pytest.param((WIDE, WIDE, WIDE, WIDE), 2, id="nothing is rounded twice"),
        pytest.param((NARROW, NARROW, NARROW, WIDE), 3, id="both are rounded where they meet"),
        pytest.param((NARROW, WIDE, NARROW, WIDE), 4, id="other steps are kept"),
    ],
)
def test_values_stay_with_fewer_roundings(scales: tuple[Scale, ...], left: int) -> None:
    model = decoder(*scales)
    assert roundings(model) == 4
    before = run(model.clone())
    round_once(model)
    assert roundings(model) == left
    np.testing.assert_array_equal(run(model), before)
