"""Blending: plans that overlap, weights that fit, cells that come out once and complete."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.errors import TilePlanError
from cellseg.runtime.engines.trim import Output
from cellseg.runtime.tiles.blend import LOOKAHEAD, Blend, BlendStitcher, band_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.tiles.plan import Tile, TilePlan

TILE_PX, STRIDE_PX = 32, 4
extents = st.tuples(st.integers(1, 150), st.integers(1, 150))
blends = st.builds(
    Blend, st.sampled_from(["hann", "gaussian"]), st.sampled_from([0, 0.25, 0.5, 0.8])
)


def seen_by(tile: Tile, plan: TilePlan, seed: int) -> NDArray[np.float32]:
    """Return what a network without shift invariance says of a tile."""
    rng = np.random.default_rng([seed, tile.index])
    return rng.random((*plan.tile_hw, 2)).astype(np.float32)


def stitched(
    plan: TilePlan, blend: Blend, todo: NDArray[np.int64], order: NDArray[np.int64], seed: int = 0
) -> NDArray[np.float32]:
    canvas = np.full((*plan.extent_hw, 2), np.nan, np.float32)
    stitcher = BlendStitcher(plan, blend, todo, todo, 2)
    for index in order:
        tile = plan.tile(int(index))
        for piece in stitcher.add(tile, Output(seen_by(tile, plan, seed))):
            assert np.isnan(canvas[piece.tile.outer]).all(), "each cell comes once"
            canvas[piece.tile.outer] = piece.kept
    return canvas


def blended_in_floats(
    plan: TilePlan, blend: Blend, todo: NDArray[np.int64], seed: int = 0
) -> NDArray[np.float64]:
    """Blend on a canvas of the whole image, as small-image tools do."""
    outer = np.outer(blend.weights(plan.y), blend.weights(plan.x))[..., None].astype(float)
    sums, weights = np.zeros((*plan.rounded_hw, 2)), np.zeros((*plan.rounded_hw, 1))
    for index in todo:
        tile = plan.tile(int(index))
        (y, x), (h, w) = tile.read_yx, plan.tile_hw
        sums[y : y + h, x : x + w] += seen_by(tile, plan, seed) * outer
        weights[y : y + h, x : x + w] += outer
    height, width = plan.extent_hw
    with np.errstate(invalid="ignore"):
        return (sums / weights)[:height, :width]


@settings(deadline=None, max_examples=40)
@given(extents, blends, st.integers(0, 1000))
def test_cells_hold_the_weighted_mean_of_all_tiles(
    hw: tuple[int, int], blend: Blend, seed: int
) -> None:
    plan = blend.plan(hw, TILE_PX, STRIDE_PX)
    every = np.arange(len(plan))
    found = stitched(plan, blend, every, every, seed)
    expected = blended_in_floats(plan, blend, every, seed)
    np.testing.assert_allclose(found, expected, atol=1 / 65535)


@settings(deadline=None, max_examples=30)
@given(extents, blends, st.integers(0, 1000))
def test_the_order_of_tiles_does_not_matter(hw: tuple[int, int], blend: Blend, seed: int) -> None:
    plan = blend.plan(hw, TILE_PX, STRIDE_PX)
    rng = np.random.default_rng(seed)
    every = np.arange(len(plan))
    todo = every[rng.random(len(every)) < 0.7]
    first = stitched(plan, blend, todo, todo)
    np.testing.assert_array_equal(first, stitched(plan, blend, todo, rng.permutation(todo)))
    is_there = np.zeros(len(plan), bool)
    is_there[todo] = True
    for tile in plan:
        assert np.isnan(first[tile.outer]).any() != is_there[tile.index]


@settings(deadline=None, max_examples=30)
@given(extents, blends, st.integers(0, 1000))
def test_where_tiles_are_left_out_the_others_count_alone(
    hw: tuple[int, int], blend: Blend, seed: int
) -> None:
    plan = blend.plan(hw, TILE_PX, STRIDE_PX)
    todo = np.flatnonzero(np.random.default_rng(seed).random(len(plan)) < 0.5)
    found, expected = stitched(plan, blend, todo, todo), blended_in_floats(plan, blend, todo)
    kept = ~np.isnan(found)
    np.testing.assert_allclose(found[kept], expected[kept], atol=1 / 65535)


@settings(deadline=None, max_examples=30)
@given(extents, blends, st.integers(0, 1000))
def test_cells_that_are_missing_are_summed_up_again_from_all_their_tiles(
    hw: tuple[int, int], blend: Blend, seed: int
) -> None:
    plan = blend.plan(hw, TILE_PX, STRIDE_PX)
    rng = np.random.default_rng(seed)
    todo = np.flatnonzero(rng.random(len(plan)) < 0.8)
    missing = todo[rng.random(len(todo)) < 0.3]
    whole = stitched(plan, blend, todo, todo)
    again = BlendStitcher(plan, blend, todo, missing, 2)
    given_back = []
    for index in again.tiles:
        tile = plan.tile(int(index))
        for piece in again.add(tile, Output(seen_by(tile, plan, 0))):
            given_back.append(piece.tile.index)
            np.testing.assert_array_equal(piece.kept, whole[piece.tile.outer])
    assert sorted(given_back) == missing.tolist()
    assert set(missing.tolist()) <= set(again.tiles.tolist()) <= set(todo.tolist())


@settings(deadline=None, max_examples=40)
@given(extents, blends, st.integers(0, 1000), st.booleans())
def test_no_order_within_the_lookahead_holds_more_than_was_planned(
    hw: tuple[int, int], blend: Blend, seed: int, is_resumed: bool
) -> None:
    plan = blend.plan(hw, TILE_PX, STRIDE_PX)
    rng = np.random.default_rng(seed)
    todo = np.flatnonzero(rng.random(len(plan)) < 0.8)
    cells = todo[rng.random(len(todo)) < 0.3] if is_resumed else todo
    planned = band_bytes(plan, todo, 2)
    stitcher = BlendStitcher(plan, blend, todo, cells, 2, planned)
    assert stitcher.lookahead is not None
    assert 1 <= stitcher.lookahead <= LOOKAHEAD
    begun: list[int] = []
    left = stitcher.tiles.tolist()
    while left or begun:
        oldest = np.searchsorted(stitcher.tiles, min(begun + left))
        allowed = stitcher.tiles[oldest : oldest + stitcher.lookahead].tolist()
        while left and left[0] in allowed:
            begun.append(left.pop(0))
        tile = plan.tile(int(rng.choice(begun)))
        begun.remove(tile.index)
        for _ in stitcher.add(tile, Output(seen_by(tile, plan, 0))):
            assert stitcher.held_bytes <= planned
        assert stitcher.held_bytes <= planned
    assert stitcher.held_bytes == 0


@settings(deadline=None)
@given(extents, blends)
def test_weights_are_positive_and_their_sum_fits(hw: tuple[int, int], blend: Blend) -> None:
    plan = blend.plan(hw, TILE_PX, STRIDE_PX)
    for axis in (plan.y, plan.x):
        weights, total = blend.weights(axis), np.zeros(axis.rounded_px, int)
        for index in range(len(axis)):
            start = axis.read_start(index)
            total[start : start + axis.read_px] += weights
        assert weights.min() >= 1
        assert total.max() <= 255
        np.testing.assert_array_equal(weights, weights[::-1])


@settings(deadline=None)
@given(extents, blends)
def test_neighbours_overlap_by_at_least_what_was_asked_for(
    hw: tuple[int, int], blend: Blend
) -> None:
    plan = blend.plan(hw, TILE_PX, STRIDE_PX)
    for axis in (plan.y, plan.x):
        starts = [axis.read_start(index) for index in range(len(axis))]
        assert all(start % STRIDE_PX == 0 for start in starts)
        assert all(b - a <= TILE_PX * (1 - blend.overlap) for a, b in itertools.pairwise(starts))
        assert starts[-1] + axis.read_px == axis.rounded_px


@pytest.mark.parametrize("overlap", [-0.1, 0.81, 1.0, float("nan")])
def test_an_overlap_out_of_range_is_refused(overlap: float) -> None:
    with pytest.raises(TilePlanError, match="overlap="):
        Blend("hann", overlap)


def test_an_overlap_that_leaves_no_stride_is_refused() -> None:
    with pytest.raises(TilePlanError, match="one stride apart") as caught:
        Blend("hann", 0.8).plan((100, 100), 64, 32)
    assert "--tile" in str(caught.value.hint)
