"""Sizes are settled by running; what goes over the image is told from what goes over channels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cellseg.errors import ExportError
from cellseg.export.from_onnx.shapes import refuse_whole_tile, settle_sizes
from cellseg.export.onnx_graph.reach import structural_reach, total_stride
from tests.export.graphs import Sketch, noise, ops, run_onnx


def indices(sketch: Sketch, *values: int) -> str:
    return sketch.builder.constant(np.array(values, np.int64), "indices")


def rows_and_columns(sketch: Sketch, of: str) -> str:
    """Add what torch writes for ``of.shape[2:]``, after that of (N, C)."""
    build = sketch.builder.node
    sizes = [build("Shape", [name], "shape") for name in (sketch.value, of)]
    ends = [[0], [2], [2], [4]]
    first, last = (
        build("Slice", [size, *(indices(sketch, *end) for end in ends[at : at + 2])], "part")
        for size, at in zip(sizes, (0, 2), strict=True)
    )
    return build("Concat", [first, last], "sizes", axis=0)


def resized_to_skip(factor: int, fixed: int | None = None) -> onnx.ModelProto:
    """Make a network that pools and resizes to the size before."""
    sketch = Sketch().conv(4, 3)
    skip = sketch.value
    sketch.node("MaxPool", kernel_shape=[factor] * 2, strides=[factor] * 2)
    to = indices(sketch, 1, 4, fixed, fixed) if fixed else rows_and_columns(sketch, skip)
    sketch.node("Resize", [sketch.value, "", "", to], mode="linear")
    return sketch.node("Add", [sketch.value, skip]).model()


@pytest.mark.parametrize("factor", [2, 3])
def test_a_size_that_is_computed_becomes_a_factor(factor: int) -> None:
    model = resized_to_skip(factor)
    images = noise(1, 6 * factor, 4 * factor)
    expected = run_onnx(model, images)
    settle_sizes(model, None)
    assert "Shape" not in ops(model)
    assert total_stride(model) == factor
    np.testing.assert_allclose(run_onnx(model, images), expected, atol=1e-6)


def test_a_size_that_is_fixed_becomes_a_factor() -> None:
    model = resized_to_skip(2, fixed=16)
    expected = run_onnx(model, noise(1, 16, 16))
    settle_sizes(model, (16, 16))
    np.testing.assert_allclose(run_onnx(model, noise(1, 16, 16)), expected, atol=1e-6)
    assert run_onnx(model, noise(1, 24, 8)).shape == (1, 24, 8, 4)


def test_half_of_the_channels_is_a_constant() -> None:
    sketch = Sketch().conv(4, 3)
    build, value = sketch.builder.node, sketch.value
    count = build("Gather", [build("Shape", [value], "shape"), indices(sketch, 1)], "count", axis=0)
    half = build("Div", [count, indices(sketch, 2)], "half")
    cut = [value, indices(sketch, 0), half, indices(sketch, 1)]
    sketch.channels = 2
    model = sketch.node("Slice", cut).model()
    expected = run_onnx(model, noise(1, 8, 8))
    settle_sizes(model, None)
    assert ops(model) == ["Transpose", "Cast", "Conv", "Slice", "Transpose"]
    np.testing.assert_array_equal(run_onnx(model, noise(1, 8, 8)), expected)


@pytest.mark.parametrize("cut_px", [0, 1])
def test_a_map_that_is_cut_to_a_computed_size_is_settled(cut_px: int) -> None:
    sketch = Sketch().conv(4, 3)
    skip, first = sketch.value, [0, 0, 0, 0, 0, 0, cut_px, cut_px]
    grown = sketch.node("Pad", [skip, indices(sketch, *first)]).value
    size = sketch.builder.node("Shape", [skip], "shape")
    sides = [indices(sketch, 2), indices(sketch, 4)]
    ends = sketch.builder.node("Slice", [size, *sides], "ends")
    cut = [grown, indices(sketch, 0, 0), ends, indices(sketch, 2, 3)]
    model = sketch.node("Slice", cut).node("Add", [sketch.value, skip]).model()
    expected = run_onnx(model, noise(1, 8, 12))
    settle_sizes(model, None)
    assert "Shape" not in ops(model)
    assert ops(model).count("Slice") == cut_px
    assert [reach.radius_px for reach in structural_reach(model)] == [1, 1]
    np.testing.assert_array_equal(run_onnx(model, noise(1, 8, 12)), expected)


def mean_over(*axes: int, turned: bool = False) -> onnx.ModelProto:
    sketch = Sketch().conv(4, 3)
    skip = sketch.value
    if turned:
        sketch.node("Transpose", perm=[0, 2, 3, 1])
    sketch.node("ReduceMean", axes=[*axes], keepdims=1)
    if turned:
        sketch.node("Transpose", perm=[0, 3, 1, 2])
    return sketch.node("Sub", [skip, sketch.value]).model()


@pytest.mark.parametrize(("axes", "turned"), [((1,), False), ((-1,), True), ((3,), True)])
def test_a_mean_over_channels_is_local(axes: tuple[int, ...], turned: bool) -> None:
    model = mean_over(*axes, turned=turned)
    before = ops(model)
    refuse_whole_tile(model, allowed=False)
    assert ops(model) == before


@pytest.mark.parametrize(
    ("axes", "turned"), [((2, 3), False), ((3,), False), ((1, 2), True), ((-2,), True)]
)
def test_a_mean_over_the_image_is_refused(axes: tuple[int, ...], turned: bool) -> None:
    with pytest.raises(ExportError, match=r"whole tile.*ReduceMean") as caught:
        refuse_whole_tile(mean_over(*axes, turned=turned), allowed=False)
    assert "--halo-tolerance" in (caught.value.hint or "")


def test_a_mean_over_the_image_may_be_allowed() -> None:
    model = mean_over(2, 3)
    expected = run_onnx(model, noise(1, 8, 12))
    refuse_whole_tile(model, allowed=True)
    assert "GlobalAveragePool" in ops(model)
    np.testing.assert_allclose(run_onnx(model, noise(1, 8, 12)), expected, atol=1e-3)


@pytest.mark.parametrize("axes", [(3,), (2, 3, 1)])
def test_only_a_mean_over_the_whole_image_may_be_allowed(axes: tuple[int, ...]) -> None:
    with pytest.raises(ExportError, match=r"whole tile.*ReduceMean"):
        refuse_whole_tile(mean_over(*axes), allowed=True)


def test_a_largest_value_of_the_image_is_never_allowed() -> None:
    model = Sketch().conv(4, 3).node("GlobalMaxPool").model()
    with pytest.raises(ExportError, match="GlobalMaxPool"):
        refuse_whole_tile(model, allowed=True)


def test_norms_of_groups_are_refused_without_a_tolerance_that_would_not_help() -> None:
    for grouped in (False, True):
        sketch = Sketch().conv(4)
        if grouped:
            shape = sketch.builder.constant(np.array([0, 2, -1, 64], np.int64), "groups")
            sketch.node("Reshape", [sketch.value, shape])
        ones = [sketch.constant(np.ones(2 if grouped else 4), "one") for _ in range(2)]
        sketch.node("InstanceNormalization", [sketch.value, *ones])
        model = sketch.model()
        with pytest.raises(ExportError, match="whole tile") as caught:
            refuse_whole_tile(model, allowed=False)
        assert ("--halo-tolerance" in str(caught.value.hint)) == (not grouped)


def test_a_sum_along_rows_is_refused() -> None:
    sketch = Sketch().conv(4, 3)
    axis = sketch.builder.constant(np.array(3, np.int64), "axis")
    with pytest.raises(ExportError, match=r"whole tile.*CumSum"):
        refuse_whole_tile(sketch.node("CumSum", [sketch.value, axis]).model(), allowed=True)
