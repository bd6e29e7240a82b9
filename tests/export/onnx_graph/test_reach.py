"""The structural bound is what positive weights, which hide nothing, really reach."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.errors import ExportError
from cellseg.export.checks.receptive_field import measure_reach, probe_side
from cellseg.export.onnx_graph.reach import structural_reach, total_stride, whole_tile_nodes
from cellseg.export.passes import run_pass
from cellseg.export.passes.conv_transpose import ConvTransposeToDepthToSpace
from tests.export.graphs import Sketch, noise, run_onnx

kernels = st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 2))


@st.composite
def networks(draw: st.DrawFn) -> Sketch:
    """Down by strides or pooling, convolutions, up again; sometimes a skip around it all."""
    sketch = Sketch(seed=draw(st.integers(0, 99)))
    sketch.by_constant("Mul", 1 / 255)
    skip = sketch.conv(2, 3).value
    down = draw(st.sampled_from(["conv", "MaxPool", "none"]))
    if down == "conv":
        sketch.conv(2, draw(st.sampled_from([2, 3, 5])), 2)
    elif down == "MaxPool":
        sketch.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    for kernel, dilation in draw(st.lists(kernels, max_size=2)):
        sketch.conv(2, kernel, 1, dilation)
    if down != "none":
        sketch.conv_transpose(2, draw(st.sampled_from([2, 4])))
    if draw(st.booleans()):
        sketch.node("Concat", [sketch.value, skip], axis=1)
        sketch.channels += 2
    return sketch


@given(networks())
@settings(max_examples=25, deadline=None)
def test_positive_weights_reach_exactly_the_bound(sketch: Sketch) -> None:
    model = sketch.model()
    images = [*noise(3, *[probe_side(model)] * 2)]
    field = measure_reach(model, lambda tile: run_onnx(model, tile[np.newaxis])[0], images)
    assert field.measured_px == field.bound_px


def test_rewriting_a_transposed_convolution_does_not_change_reach() -> None:
    model = Sketch().conv(2, 3, 2).conv_transpose(2).conv(2, 3).model()
    rewritten = run_pass(ConvTransposeToDepthToSpace(), model).model
    assert structural_reach(rewritten) == structural_reach(model)
    assert total_stride(rewritten) == total_stride(model) == 2


def test_pointwise_network_reaches_nothing() -> None:
    model = Sketch().conv(2, 1).node("Relu").conv(2, 1).model()
    assert [reach.radius_px for reach in structural_reach(model)] == [0, 0]


def test_unknown_operator_is_named() -> None:
    model = Sketch().conv(2, 1).node("GlobalMaxPool").model()
    with pytest.raises(ExportError, match="GlobalMaxPool"):
        structural_reach(model)


def test_what_looks_at_the_whole_tile_is_named_and_the_rest_is_bounded() -> None:
    model = Sketch().conv(2, 3).node("GlobalAveragePool").model()
    assert whole_tile_nodes(model) == ("globalaveragepool",)
    assert [reach.radius_px for reach in structural_reach(model)] == [1, 1]


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_the_halo_is_the_measured_receptive_field(depth: int, kernel: int, dilation: int) -> None:
    sketch = Sketch()
    for _ in range(depth):
        sketch.conv(1, kernel, 1, dilation)
    model = sketch.model()
    side = probe_side(model)
    field = measure_reach(
        model, lambda tile: run_onnx(model, tile[np.newaxis])[0], [*noise(2, side, side)]
    )
    by_hand_px = depth * dilation * (kernel - 1) // 2
    assert field.measured_px == field.bound_px == field.exact_halo_px == by_hand_px


def pooled(sketch: Sketch, source: str, factor: int) -> str:
    """Pool by a factor and repeat by it."""
    scales = sketch.constant(np.array([1, 1, factor, factor]), "scales")
    size = [factor] * 2
    sketch.node("MaxPool", [source], kernel_shape=size, strides=size)
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return sketch.node("Resize", [sketch.value, "", scales], **how).value


def test_branches_of_stride_two_and_three_want_multiples_of_six() -> None:
    sketch = Sketch().conv(2, 1)
    branches = [pooled(sketch, sketch.value, 2), pooled(sketch, sketch.value, 3)]
    model = sketch.node("Add", branches).model()
    assert total_stride(model) == 6


def test_an_image_squeezed_along_one_axis_has_a_stride() -> None:
    model = Sketch().conv(2, 1).node("MaxPool", kernel_shape=[1, 4], strides=[1, 4]).model()
    assert total_stride(model) == 4


RESIZES = {
    "linear half_pixel": {"mode": "linear"},
    "linear asymmetric": {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
    "cubic": {"mode": "cubic", "cubic_coeff_a": -0.75},
    "nearest, rounded": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"},
    "nearest, up": {
        "mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil",
    },
}  # fmt: skip


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("name", RESIZES)
def test_every_way_to_resize_reaches_what_is_bound(name: str, factor: int) -> None:
    sketch = Sketch().conv(2, 3, factor)
    scales = sketch.constant(np.array([1, 1, factor, factor]), "scales")
    model = sketch.node("Resize", [sketch.value, "", scales], **RESIZES[name]).model()
    images = [*noise(3, *[probe_side(model)] * 2)]
    field = measure_reach(model, lambda tile: run_onnx(model, tile[np.newaxis])[0], images)
    assert field.bound_px - factor < field.measured_px <= field.bound_px


def test_a_resize_that_stretches_to_the_corners_is_refused() -> None:
    sketch = Sketch().conv(2, 3, 2)
    scales = sketch.constant(np.array([1, 1, 2, 2]), "scales")
    how = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    model = sketch.node("Resize", [sketch.value, "", scales], **how).model()
    with pytest.raises(ExportError, match="align_corners") as caught:
        structural_reach(model)
    assert "align_corners=False" in (caught.value.hint or "")


def test_every_other_pixel_is_a_stride() -> None:
    sketch = Sketch().conv(2, 3)
    numbers = ([1, 0], [1000, 1000], [2, 3], [2, 2])
    cut = [
        sketch.builder.constant(np.array(values, np.int64), "number")
        for values in numbers
    ]  # fmt: skip
    sketch.node("Slice", [sketch.value, *cut])
    scales = sketch.constant(np.array([1, 1, 2, 2]), "scales")
    model = sketch.node("Resize", [sketch.value, "", scales], mode="linear").model()
    images = [*noise(3, *[probe_side(model)] * 2)]
    field = measure_reach(model, lambda tile: run_onnx(model, tile[np.newaxis])[0], images)
    assert (total_stride(model), field.measured_px) == (2, field.bound_px)


def test_a_picture_that_is_turned_over_is_refused() -> None:
    sketch = Sketch().conv(2, 3)
    numbers = ([-1], [-1000], [3], [-1])
    cut = [
        sketch.builder.constant(np.array(values, np.int64), "number")
        for values in numbers
    ]  # fmt: skip
    with pytest.raises(ExportError, match="from the top left"):
        structural_reach(sketch.node("Slice", [sketch.value, *cut]).model())
