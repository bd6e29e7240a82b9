"""Shifts between overlapping frames, and places of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.live.mosaic.placement import Link, settle_loose, solve_places
from cellseg.live.mosaic.register import find_shift
from tests.fakes import nuclei_picture

PICTURE = nuclei_picture(400, 500)[..., 1]


@settings(max_examples=30, deadline=None)
@given(st.integers(-16, 16), st.integers(-16, 16), st.booleans())
def test_the_shift_is_found_to_the_pixel(dy: int, dx: int, is_below: bool) -> None:
    side, step = 200, 150
    y, x = (20 + step + dy, 40 + dx) if is_below else (20 + dy, 40 + step + dx)
    y, x = max(0, y), max(0, x)
    first = PICTURE[20 : 20 + side, 40 : 40 + side]
    second = PICTURE[y : y + side, x : x + side]
    stage = (step, 0) if is_below else (0, step)
    found = find_shift(first, second, stage)
    assert found is not None
    assert found.yx == (y - 20, x - 40)
    assert found.likeness > 0.99


def test_blank_ground_gives_no_shift() -> None:
    blank = np.full((100, 100), 240, np.uint8)
    assert find_shift(blank, blank, (0, 80)) is None


def test_frames_that_show_different_things_give_no_shift() -> None:
    one, other = (np.random.default_rng(n).integers(0, 255, (90, 90), np.uint8) for n in (1, 2))
    assert find_shift(one, other, (0, 40)) is None


@pytest.mark.parametrize("stage", [(0, 95), (200, 0), (95, 95)], ids=str)
def test_frames_that_hardly_touch_give_no_shift(stage: tuple[int, int]) -> None:
    assert find_shift(PICTURE[:100, :100], PICTURE[:100, :100], stage) is None


def grid(side: int, step: float) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(side) * step, np.arange(side) * step), -1).reshape(-1, 2)


def links_of(true: np.ndarray, step: float) -> list[Link]:
    count = len(true)
    return [
        Link(a, b, tuple(true[b] - true[a]), 0.9)
        for a in range(count)
        for b in range(a + 1, count)
        if np.abs(true[b] - true[a]).max() < 1.5 * step
    ]


def test_places_follow_the_shifts_and_not_the_stage() -> None:
    stage = grid(5, 90.0)
    drift = np.random.default_rng(0).uniform(-8, 8, stage.shape) + stage * 0.02
    found = solve_places(stage, links_of(stage + drift, 90.0))
    off = found - (stage + drift)
    np.testing.assert_allclose(off - off.mean(0), 0, atol=0.05)


def test_a_wrong_shift_is_left_out() -> None:
    stage = grid(4, 90.0)
    links = links_of(stage, 90.0)
    links[7] = Link(links[7].first, links[7].second, (links[7].yx[0] + 40, links[7].yx[1]), 0.9)
    np.testing.assert_allclose(solve_places(stage, links), stage, atol=0.05)


def test_a_frame_that_nothing_holds_goes_where_the_others_say_the_stage_was() -> None:
    stage, sizes = grid(3, 90.0), np.full((9, 2), 100.0)
    places = stage + 5.0
    links = [link for link in links_of(places, 90.0) if 4 not in (link.first, link.second)]
    places[4] = stage[4]
    np.testing.assert_allclose(settle_loose(places, stage, sizes, links), stage + 5.0)


def test_a_frame_that_nothing_holds_does_not_make_the_mosaic_larger() -> None:
    stage, sizes = grid(3, 90.0), np.full((9, 2), 100.0)
    places = stage.copy()
    places[1:] += [7.0, 0.0]
    places[3] -= [0.0, 4.0]
    links = [link for link in links_of(stage, 90.0) if 0 not in (link.first, link.second)]
    found = settle_loose(places, stage, sizes, links)
    assert found[0].tolist() == [7.0, 0.0]
    np.testing.assert_array_equal(found[1:], places[1:])


def test_what_was_not_measured_lies_where_the_stage_says() -> None:
    stage = grid(3, 50.0)
    np.testing.assert_allclose(solve_places(stage, []), stage)
