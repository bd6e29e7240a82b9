"""A network's first and last layers, put in another order: same values, less to move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")
from openvino import opset13 as ops  # noqa: E402

from cellseg.runtime.engines.openvino_ends import float_first, spread_last  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIDE_PX, COUNT = 16, 3
RNG = np.random.default_rng(4)
IMAGE = RNG.integers(0, 256, (1, SIDE_PX, SIDE_PX + 4, 3), np.uint8)
TO_NCHW, TO_NHWC = np.array([0, 3, 1, 2]), np.array([0, 2, 3, 1])


def convolved(tensor: Any, count: int, stride: int = 1) -> Any:
    before = tensor.get_output_partial_shape(0)[1].get_length()
    weights = RNG.normal(0, 0.01, (count, before, stride, stride)).astype(np.float32)
    return ops.convolution(tensor, weights, [stride] * 2, [0, 0], [0, 0], [1, 1])


def network(
    decide: Callable[[Any], Any], blocks: int = 2, mode: str = "blocks_first", bytes_: bool = True
) -> Any:
    """Return a network that makes blocks of pixels; the image is read as bytes or as floats."""
    image = ops.parameter(list(IMAGE.shape), np.uint8, name="image")
    if bytes_:
        now = ops.convert(ops.transpose(image, TO_NCHW), "f32")
    else:
        now = ops.transpose(ops.convert(image, "f32"), TO_NCHW)
    now = convolved(convolved(now, 8, stride=blocks), COUNT * blocks**2)
    found = decide(ops.depth_to_space(now, mode, blocks))
    return openvino.Model([ops.result(ops.transpose(found, TO_NHWC))], [image], "blocks")


def softmax(tensor: Any) -> Any:
    """Return a softmax as bundles spell it."""
    axis = np.array([1])
    powers = ops.exp(ops.subtract(tensor, ops.reduce_max(tensor, axis, keep_dims=True)))
    return ops.divide(powers, ops.reduce_sum(powers, axis, keep_dims=True))


def with_distance(tensor: Any) -> Any:
    """Return a head of two parts."""
    return ops.concat([ops.softmax(tensor, 1), ops.tanh(tensor)], 1)


def blurred(tensor: Any) -> Any:
    """Return what looks beyond its place."""
    weights = RNG.normal(0, 0.4, (COUNT, COUNT, 3, 3)).astype(np.float32)
    return ops.convolution(tensor, weights, [1, 1], [1, 1], [1, 1], [1, 1])


def joined_with_image(tensor: Any) -> Any:
    """Return what meets a tensor that was not made of blocks."""
    return ops.add(tensor, ops.constant(RNG.random((1, 1, SIDE_PX, SIDE_PX + 4), np.float32)))


def run(model: Any) -> NDArray[np.float32]:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    found: NDArray[np.float32] = openvino.Core().compile_model(model, "CPU", settings)([IMAGE])[0]
    return found


def kinds(model: Any) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


@pytest.mark.parametrize("blocks", [2, 4])
@pytest.mark.parametrize("decide", [softmax, with_distance, lambda tensor: ops.sigmoid(tensor)])
def test_blocks_are_spread_when_values_are_final(decide: Any, blocks: int) -> None:
    model = network(decide, blocks)
    before = run(model.clone())
    assert before.shape[:3] == IMAGE.shape[:3]
    spread_last(model)
    assert "DepthToSpace" not in kinds(model)
    np.testing.assert_allclose(run(model), before, rtol=0, atol=1e-6)
    assert list(model.output(0).get_shape()) == list(before.shape)


@pytest.mark.parametrize(
    ("decide", "mode"),
    [(blurred, "blocks_first"), (softmax, "depth_first"), (joined_with_image, "blocks_first")],
)
def test_what_is_not_understood_is_left_as_it_is(decide: Any, mode: str) -> None:
    model = network(decide, mode=mode)
    before = run(model.clone())
    spread_last(model)
    assert "DepthToSpace" in kinds(model)
    np.testing.assert_array_equal(run(model), before)


def test_floats_are_made_before_channels_move() -> None:
    model = network(softmax)
    before = run(model.clone())
    assert kinds(model)[:3] == ["Parameter", "Constant", "Transpose"]
    float_first(model)
    order = [kind for kind in kinds(model) if kind in ("Convert", "Transpose")]
    assert order[:2] == ["Convert", "Transpose"]
    np.testing.assert_array_equal(run(model), before)


def test_an_image_that_is_made_float_first_stays_so() -> None:
    model = network(softmax, bytes_=False)
    before = kinds(model)
    float_first(model)
    assert kinds(model) == before
