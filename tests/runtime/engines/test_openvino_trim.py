"""Decoders that leave out what is not looked at: same values, smaller windows, or no cut at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines import open_engine
from cellseg.runtime.engines.trim import NOTHING, Sides, infer_seen

openvino = pytest.importorskip("openvino")
from openvino import opset1  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

from cellseg.runtime.engines import openvino_trim  # noqa: E402
from cellseg.runtime.engines.openvino_trim import make_trimmable  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIDE_PX = 64
RNG = np.random.default_rng(3)


def convolved(tensor: Any, count: int, kernel: int = 3) -> Any:
    """Return a convolution that keeps the size, and a ReLU."""
    before = tensor.get_output_partial_shape(0)[1].get_length()
    weights = RNG.normal(0, 0.4, (count, before, kernel, kernel)).astype(np.float32)
    pads = [kernel // 2] * 2
    return ops.relu(ops.convolution(tensor, weights, [1, 1], pads, pads, [1, 1]))


def finer(tensor: Any) -> Any:
    """Return the tensor at twice the resolution, with half the channels."""
    half = tensor.get_output_partial_shape(0)[1].get_length() // 2
    wide = convolved(tensor, 4 * half, kernel=1)
    return ops.depth_to_space(wide, "blocks_first", 2)


def unet(levels: int = 2, kernel: int = 3, join: Any = None, last: Any = None) -> Any:
    """Return a UNet of random weights, uint8-like NHWC floats in, three channels out."""
    image = ops.parameter([1, SIDE_PX, SIDE_PX, 3], np.float32, name="image")
    now, skips = ops.transpose(image, np.array([0, 3, 1, 2])), []
    for level in range(levels):
        now = convolved(now, 4 << level, kernel)
        skips.append(now)
        now = opset1.max_pool(now, [2, 2], [0, 0], [0, 0], [2, 2])
    now = convolved(now, 4 << levels, kernel)
    for skip in reversed(skips):
        joined = (join or (lambda a, b: ops.concat([a, b], 1)))(skip, finer(now))
        now = convolved(joined, skip.get_output_partial_shape(0)[1].get_length(), kernel)
    now = now if last is None else last(now)
    found = ops.softmax(convolved(now, 3, kernel=1), 1)
    output = ops.transpose(found, np.array([0, 2, 3, 1]))
    return openvino.Model([ops.result(output)], [image], "unet")


def run(model: Any, *inputs: NDArray[Any]) -> NDArray[np.float32]:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found: NDArray[np.float32] = compiled(list(inputs))[0][0]
    return found


IMAGE = RNG.random((1, SIDE_PX, SIDE_PX, 3), np.float32)
some_px = st.integers(0, 30)


@pytest.mark.parametrize("band_px", [7, 16, 256])
@pytest.mark.parametrize(("levels", "kernel"), [(1, 3), (2, 3), (3, 3), (2, 5)])
def test_every_window_has_the_values_of_the_whole(
    levels: int, kernel: int, band_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_trim, "BAND_PX", band_px)
    model = unet(levels, kernel)
    whole = run(model.clone(), IMAGE)
    trimmer = make_trimmable(model)
    assert trimmer is not None
    assert len(model.outputs) == trimmer.bands == -(-SIDE_PX // band_px)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    @settings(max_examples=20, deadline=None)
    @given(st.builds(Sides, some_px, some_px, some_px, some_px))
    def check(unseen: Sides) -> None:
        outputs = compiled([IMAGE, *trimmer.cuts(unseen)])
        left_out = trimmer.left_out(unseen)
        found = np.full((*left_out.within((SIDE_PX, SIDE_PX)), 3), np.nan, np.float32)
        for number, rows in enumerate(trimmer.rows(unseen)):
            found[rows] = outputs[number][0]
        assert all(0 <= less <= most for less, most in zip(left_out, unseen, strict=True))
        height, width = unseen.within((SIDE_PX, SIDE_PX))
        y, x = unseen.top - left_out.top, unseen.left - left_out.left
        expected = whole[unseen.top :, unseen.left :][:height, :width]
        np.testing.assert_allclose(found[y : y + height, x : x + width], expected, atol=1e-6)

    check()


@pytest.mark.parametrize(("band_px", "left_px"), [(16, 16), (256, 14)])
def test_most_of_a_halo_is_left_out(
    band_px: int, left_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_trim, "BAND_PX", band_px)
    trimmer = make_trimmable(unet(2))
    assert trimmer is not None
    assert trimmer.left_out(Sides(16, 16, 16, 16)) == Sides(*(left_px,) * 4)
    assert trimmer.left_out(NOTHING) == NOTHING


@pytest.mark.parametrize("band_px", [16, 256])
def test_what_doubles_the_resolution_does_so_for_the_window_alone(
    band_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_trim, "BAND_PX", band_px)
    model = unet(2)
    trimmer = make_trimmable(model)
    assert trimmer is not None
    unseen = Sides(16, 16, 16, 16)
    for bound, row in zip(model.get_parameters()[1:], trimmer.cuts(unseen), strict=True):
        bound.output(0).replace(ops.constant(row).output(0))
        model.remove_parameter(bound)
    model.validate_nodes_and_infer_types()
    spread = [
        tuple(node.output(0).get_shape())[2:]
        for node in model.get_ordered_ops()
        if node.get_type_name() == "DepthToSpace"
    ]
    assert (20, 20) in spread  # 16 of 32 px are looked at, two more on each side are seen
    bands = [hw for hw in spread if hw != (20, 20)]
    assert bands == ([(36, 36)] if band_px == 256 else bands)
    assert all(width == 36 and height < SIDE_PX for height, width in bands)


def test_bands_divide_what_is_looked_at_and_share_rows_where_there_are_too_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openvino_trim, "BAND_PX", 16)
    trimmer = make_trimmable(unet(2))
    assert trimmer is not None
    assert trimmer.rows(Sides(10, 14, 3, 3)) == [slice(k, k + 10) for k in (0, 10, 20, 30)]
    assert trimmer.rows(Sides(20, SIDE_PX - 22)) == [slice(k, k + 1) for k in (0, 0, 1, 1)]


def test_what_is_quantized_is_not_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_trim, "BAND_PX", 16)

    def quantized(tensor: Any) -> Any:
        ends = [np.float32(value) for value in (0, 4, 0, 4)]
        return ops.fake_quantize(tensor, *ends, 256)

    trimmer = make_trimmable(unet(2, last=quantized))
    assert trimmer is not None
    assert trimmer.bands == 1


def gated(skip: Any, below: Any) -> Any:
    """Join as an attention gate does: the skip, which was not cut, meets what was."""
    return ops.concat([ops.multiply(skip, ops.sigmoid(below)), below], 1)


def centred(tensor: Any) -> Any:
    """Subtract the mean of the image: a layer that looks at all of it."""
    return ops.subtract(tensor, ops.reduce_mean(tensor, np.array([2, 3]), keep_dims=True))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: unet(join=gated), id="attention gate"),
        pytest.param(lambda: unet(last=centred), id="mean of the image"),
        pytest.param(lambda: unet(join=ops.add), id="no concatenation"),
    ],
)
def test_what_is_not_understood_is_left_as_it_is(model: Callable[[], Any]) -> None:
    graph = model()
    assert make_trimmable(graph) is None
    assert len(graph.inputs) == 1


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_shipped_model_is_trimmed_without_a_change(precision: str) -> None:
    tile_hw = (320, 352)
    unseen = Sides(96, 0, 112, 96)
    tile = np.random.default_rng(0).integers(0, 256, (*tile_hw, 3), np.uint8)
    engine = open_engine(Bundle.open("nuclei"), "openvino", precision, tile_hw, threads=1)
    found, (top, left) = infer_seen(engine, tile, None, unseen)
    assert found.size < 0.6 * tile.size
    height, width = unseen.within(tile_hw)
    seen = found[unseen.top - top :, unseen.left - left :][:height, :width]
    whole = engine.infer(tile)
    engine.close()
    np.testing.assert_array_equal(seen, whole[unseen.top :, unseen.left :][:height, :width])
