"""What doubles the resolution as a transposed convolution: the same values, in fewer layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")
from openvino import opset13 as ops  # noqa: E402

from cellseg.runtime.engines.openvino_blocks import spread_by_convolution  # noqa: E402
from tests.openvino_graphs import rounded  # noqa: E402

if TYPE_CHECKING:
    from numpy.typing import NDArray

RNG = np.random.default_rng(6)
CHANNELS, MADE = 16, 16
IMAGE = RNG.uniform(0, 4, (1, CHANNELS, 10, 12)).astype(np.float32)
FINER = RNG.normal(0, 0.1, (4, MADE, CHANNELS)).astype(np.float32)
"""For each place within a block, channel that is made, and channel that is seen."""

BIAS = RNG.normal(0, 0.1, MADE).astype(np.float32)
LAST = RNG.normal(0, 0.1, (16, MADE, 3, 3)).astype(np.float32)


def in_order(values: NDArray[Any], mode: str) -> NDArray[Any]:
    """Put values of places and channels, (4, K, ...), as a mode of ``DepthToSpace`` reads them."""
    moved = values if mode == "blocks_first" else np.moveaxis(values, 0, 1)
    return np.ascontiguousarray(moved).reshape(4 * MADE, *values.shape[2:])


def network(tensor: Any, weights: Any, bias: NDArray[np.float32], mode: str, count: int = 1) -> Any:
    """Return what makes blocks of a tensor by a kernel, spreads them, and looks at them."""
    pads = [weights.get_output_shape(0)[-1] // 2] * 2
    made = ops.convolution(tensor, weights, [1, 1], pads, pads, [1, 1])
    made = ops.relu(ops.add(made, bias.reshape(1, -1, 1, 1)))
    return spread(made, mode, count)


def spread(made: Any, mode: str, count: int = 1) -> Any:
    finer = [ops.depth_to_space(made, mode, 2) for _ in range(count)]
    joined = finer[0] if count == 1 else ops.add(*finer)
    return ops.convolution(joined, LAST, [1, 1], [1, 1], [1, 1], [1, 1])


def in_float(mode: str = "blocks_first", **changes: Any) -> Any:
    """Return a decoder's step in float."""
    image = ops.parameter(list(IMAGE.shape), np.float32)
    kernel = changes.pop("kernel", FINER)
    bias = changes.pop("bias", np.broadcast_to(BIAS, (4, MADE)))
    weights = in_order(kernel, mode)
    weights = weights.reshape(*weights.shape[:2], *(kernel.shape[3:] or (1, 1)))
    made = network(image, ops.constant(weights), in_order(bias, mode), mode, **changes)
    return openvino.Model([ops.result(made)], [image], "float")


def in_bytes(shared: bool = True, zero: int = 0) -> Any:
    """Return a decoder's step as an int8 file has it, OpenVINO's reading of it."""
    image = ops.parameter(list(IMAGE.shape), np.float32)
    most = np.abs(FINER).max(axis=(0, 2) if shared else 2)
    steps = np.broadcast_to(most / 64, (4, MADE)).astype(np.float32)
    bytes_ = np.rint(FINER / steps[..., None]).astype(np.int8).reshape(-1, CHANNELS, 1, 1)
    weights = ops.multiply(ops.convert(ops.constant(bytes_), "f32"), steps.reshape(-1, 1, 1, 1))
    seen = rounded(image, (0.02, zero))
    made = ops.convolution(seen, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    biased = ops.add(made, np.tile(BIAS, 4).reshape(1, -1, 1, 1))
    last = spread(rounded(biased, (0.01, 100)), "blocks_first")
    return openvino.Model([ops.result(last)], [image], "bytes")


def run(model: Any) -> NDArray[np.float32]:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    found: NDArray[np.float32] = openvino.Core().compile_model(model, "CPU", settings)(IMAGE)[0]
    return found


def kinds(model: Any) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


@pytest.mark.parametrize("mode", ["blocks_first", "depth_first"])
def test_one_layer_does_the_work_of_two(mode: str) -> None:
    model = in_float(mode)
    before = run(model.clone())
    spread_by_convolution(model)
    assert "DepthToSpace" not in kinds(model)
    assert kinds(model).count("ConvolutionBackpropData") == 1
    np.testing.assert_allclose(run(model), before, rtol=0, atol=1e-5)


def test_half_precision_stays_half() -> None:
    image = ops.parameter(list(IMAGE.shape), np.float16)
    weights = in_order(FINER, "blocks_first")[..., None, None].astype(np.float16)
    made = ops.convolution(image, ops.constant(weights), [1, 1], [0, 0], [0, 0], [1, 1])
    biased = ops.add(made, np.tile(BIAS, 4).reshape(1, -1, 1, 1).astype(np.float16))
    last = ops.convert(ops.depth_to_space(biased, "blocks_first", 2), "f32")
    result = ops.result(ops.convolution(last, LAST, [1, 1], [1, 1], [1, 1], [1, 1]))
    model = openvino.Model([result], [image], "half")
    spread_by_convolution(model)
    assert "DepthToSpace" not in kinds(model)


def test_bytes_stay_the_same() -> None:
    """The last convolution is in float; a byte that is off by one would move it a hundredfold."""
    model = in_bytes()
    before = run(model.clone())
    spread_by_convolution(model)
    assert "DepthToSpace" not in kinds(model)
    np.testing.assert_allclose(run(model), before, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: in_bytes(shared=False), id="steps differ within a block"),
        pytest.param(lambda: in_bytes(zero=10), id="OpenVINO would compute in floats"),
        pytest.param(
            lambda: in_float(bias=RNG.normal(size=(4, MADE)).astype(np.float32)), id="biases differ"
        ),
        pytest.param(lambda: in_float(count=2), id="blocks are read twice"),
        pytest.param(
            lambda: in_float(kernel=np.tile(FINER[..., None, None], (3, 3))), id="more than a pixel"
        ),
    ],
)
def test_what_is_another_network_stays(model: Any) -> None:
    graph = model()
    before = kinds(graph)
    spread_by_convolution(graph)
    assert kinds(graph) == before


def test_blocks_that_no_convolution_reads_are_spread_last() -> None:
    image = ops.parameter(list(IMAGE.shape), np.float32)
    weights = in_order(FINER, "blocks_first")[..., None, None]
    made = ops.convolution(image, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    last = ops.softmax(ops.depth_to_space(made, "blocks_first", 2), 1)
    model = openvino.Model([ops.result(last)], [image], "head")
    spread_by_convolution(model)
    assert "DepthToSpace" in kinds(model)
