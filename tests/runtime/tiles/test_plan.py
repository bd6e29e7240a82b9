"""Tile plans: every pixel kept once, one tile shape, the stride's grid, the halo inside."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg.errors import TilePlanError
from cellseg.runtime.tiles.plan import AxisPlan, TilePlan, plan_tiles, tile_px_for


@st.composite
def axis_plans(draw: st.DrawFn, max_extent_px: int = 5000) -> AxisPlan:
    stride_px = draw(st.sampled_from([1, 2, 3, 4, 8, 16, 32]))
    halo_px = draw(st.integers(0, 120))
    strides = draw(st.integers(-(-2 * halo_px // stride_px) + 1, 2 * halo_px + 40))
    extent_px = draw(st.integers(1, max_extent_px))
    return AxisPlan(extent_px, strides * stride_px, halo_px, stride_px, draw(st.booleans()))


@given(axis_plans())
def test_every_pixel_is_kept_exactly_once(axis: AxisPlan) -> None:
    seen = np.zeros(axis.extent_px, int)
    for index in range(len(axis)):
        seen[slice(*axis.keep(index))] += 1
    assert (seen == 1).all()


@given(axis_plans(max_extent_px=10**6))
def test_origins_and_sizes_are_multiples_of_the_stride(axis: AxisPlan) -> None:
    starts = [axis.read_start(index) for index in _probed(axis)]
    assert not any(start % axis.stride_px for start in starts)
    assert axis.read_px % axis.stride_px == 0
    assert axis.rounded_px - axis.extent_px in range(axis.stride_px)


@given(axis_plans(max_extent_px=10**6))
def test_tiles_end_flush_with_the_rounded_extent_and_never_beyond(axis: AxisPlan) -> None:
    last = len(axis) - 1
    assert axis.read_start(0) == 0
    assert axis.read_start(last) + axis.read_px == axis.rounded_px
    assert all(axis.read_start(i) + axis.read_px <= axis.rounded_px for i in _probed(axis))


@given(axis_plans(max_extent_px=10**6))
def test_inner_sides_carry_at_least_the_halo(axis: AxisPlan) -> None:
    for index in _probed(axis):
        start, stop = axis.keep(index)
        read = axis.read_start(index)
        assert start < stop
        assert index == 0 or start - read >= axis.halo_px
        assert index == len(axis) - 1 or read + axis.read_px - stop >= axis.halo_px


@given(axis_plans(max_extent_px=10**6))
def test_even_tiles_are_as_many_and_none_could_be_shorter(axis: AxisPlan) -> None:
    usual, even = (replace(axis, is_even=value) for value in (False, True))
    assert len(even) == len(usual)
    assert even.read_px <= usual.read_px
    shorter_px = even.read_px - axis.stride_px
    if len(even) > 1 and shorter_px > 2 * axis.halo_px + axis.stride_px:
        shorter = AxisPlan(axis.extent_px, shorter_px, axis.halo_px, axis.stride_px)
        assert len(shorter) > len(usual)


@given(axis_plans(max_extent_px=10**6), st.data())
def test_index_of_finds_the_tile_that_keeps_a_pixel(axis: AxisPlan, data: st.DataObject) -> None:
    pixel = data.draw(st.integers(0, axis.extent_px - 1))
    start, stop = axis.keep(axis.index_of(pixel))
    assert start <= pixel < stop


@given(axis_plans(max_extent_px=3000))
def test_keep_edges_are_the_starts_of_the_kept_parts(axis: AxisPlan) -> None:
    kept = [axis.keep(index) for index in range(len(axis))]
    assert axis.keep_edges().tolist() == [start for start, _ in kept] + [axis.extent_px]


def test_no_tile_is_wasted() -> None:
    assert len(AxisPlan(1024, 1024, 96, 16)) == 1
    assert len(AxisPlan(1025, 1024, 96, 16)) == 2
    assert len(AxisPlan(1024 + 832, 1024, 96, 16)) == 2
    assert len(AxisPlan(1024 + 833, 1024, 96, 16)) == 3


@pytest.mark.parametrize("halo_px", [-1, 128, 200], ids="halo={}".format)
def test_halo_that_leaves_no_core_is_refused(halo_px: int) -> None:
    with pytest.raises(TilePlanError, match=f"halo_px={halo_px}"):
        AxisPlan(extent_px=1000, tile_px=256, halo_px=halo_px)


def test_tile_off_the_stride_is_refused_and_the_nearest_is_named() -> None:
    with pytest.raises(TilePlanError, match="tile_px=1000, stride_px=16") as caught:
        AxisPlan(5000, 1000, 0, 16)
    assert caught.value.hint == "The nearest is 1008."


def test_image_without_pixels_is_refused() -> None:
    with pytest.raises(TilePlanError, match="extent_px=0"):
        plan_tiles((0, 5), 64, 0, 1)


@given(axis_plans(max_extent_px=600), axis_plans(max_extent_px=600))
def test_tiles_of_a_plan_partition_the_image(y: AxisPlan, x: AxisPlan) -> None:
    plan = TilePlan(y, x)
    if len(plan) > 500:
        return
    seen = np.zeros(plan.extent_hw, int)
    for tile in plan:
        seen[tile.outer] += 1
        rows, columns = tile.inner
        assert rows.stop <= plan.tile_hw[0]
        assert columns.stop <= plan.tile_hw[1]
    assert (seen == 1).all()


def test_inner_and_outer_slices_name_the_same_pixels() -> None:
    plan = plan_tiles((700, 1000), 512, 96, 16)
    image = np.arange(plan.rounded_hw[0] * plan.rounded_hw[1]).reshape(plan.rounded_hw)
    for tile in plan.tiles:
        y, x = tile.read_yx
        read = image[y : y + plan.tile_hw[0], x : x + plan.tile_hw[1]]
        np.testing.assert_array_equal(read[tile.inner], image[tile.outer])


@pytest.mark.parametrize("extent_hw", [(1, 1), (1, 7000), (7000, 1), (17, 31)])
def test_images_smaller_than_a_tile_get_a_smaller_tile(extent_hw: tuple[int, int]) -> None:
    plan = plan_tiles(extent_hw, 1024, 96, 16)
    assert plan.tile_hw == tuple(min(1024, -(-side // 16) * 16) for side in extent_hw)
    assert sum(h * w for h, w in (tile.keep_hw for tile in plan)) == extent_hw[0] * extent_hw[1]


def test_a_plan_of_a_million_by_a_million_pixels_is_not_a_list() -> None:
    plan = plan_tiles((10**6, 10**6), 512, 64, 16)
    assert len(plan) > 6_000_000
    assert plan.tiles[-1].outer[0].stop == 10**6
    assert [tile.index for tile in itertools.islice(plan, 2)] == [0, 1]
    assert len(plan.tiles[5:8]) == 3


def test_tiles_in_a_window_are_those_that_keep_its_pixels() -> None:
    plan = plan_tiles((3000, 3000), 512, 64, 16)
    window = np.zeros(plan.extent_hw, bool)
    window[700:1500, 1100:1130] = True
    expected = [tile.index for tile in plan if window[tile.outer].any()]
    assert [tile.index for tile in plan.tiles_in(700, 1100, 1500, 1130)] == expected


def test_tile_beyond_the_plan_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="index=1"):
        plan_tiles((10, 10), 64, 0, 1).tile(1)


def test_default_tile_grows_with_the_halo() -> None:
    assert tile_px_for(96, 16) == 1024
    assert tile_px_for(1000, 32) == 4000


def _probed(axis: AxisPlan) -> list[int]:
    """First, middle and last indices: a plan may hold a million."""
    count = len(axis)
    return sorted({0, 1 % count, count // 2, max(0, count - 2), count - 1})
