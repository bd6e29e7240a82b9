"""A budget becomes threads, queues and caches; what cannot fit is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg.errors import TilePlanError
from cellseg.runtime.memory.budget import (
    CACHE_BYTES,
    MIN_CACHE_BYTES,
    EngineUsage,
    TileCost,
    peak_rss_mb,
    plan_memory,
    reset_peak_rss,
)

COST = TileCost(
    (1024, 1024), 2.0, source_bytes=1, channels=3, concurrency=2, usage=EngineUsage(0, 448)
)
LEAST_BYTES = plan_memory(COST, workers=1, batch=1).total_bytes - CACHE_BYTES + MIN_CACHE_BYTES


@given(st.integers(LEAST_BYTES, 2**33), st.integers(1, 64), st.integers(1, 10**6))
def test_the_plan_never_exceeds_the_budget(budget: int, workers: int, batch: int) -> None:
    plan = plan_memory(COST, max_ram_bytes=budget, workers=workers, batch=batch)
    assert plan.total_bytes <= budget
    assert 1 <= plan.workers <= workers
    assert 1 <= plan.batch <= batch
    assert MIN_CACHE_BYTES <= plan.cache_bytes <= CACHE_BYTES


@given(st.integers(LEAST_BYTES, 2**32))
def test_a_larger_budget_never_gives_less(budget: int) -> None:
    small, large = (plan_memory(COST, max_ram_bytes=b, cores=8) for b in (budget, 2 * budget))
    assert (large.workers, large.batch) >= (small.workers, small.batch)


def test_a_budget_that_cannot_fit_is_refused_with_one_that_does() -> None:
    with pytest.raises(TilePlanError, match=r"1024x1024 px need about \d+ MiB") as caught:
        plan_memory(COST, max_ram_bytes=LEAST_BYTES - 1)
    assert caught.value.hint is not None
    megabytes = int(caught.value.hint.split("--max-ram ")[1].split("M")[0])
    # The engine is tried only then, and may take more than was expected.
    tried = replace(COST, engine_taken_bytes=COST.engine_bytes + LEAST_BYTES // 20)
    plan_memory(tried, max_ram_bytes=megabytes * 2**20)


def test_smaller_tiles_are_advised_where_tiles_are_what_does_not_fit() -> None:
    for files_bytes, what, is_advised in ((0, "Tiles of 1024x1024", True), (2**32, "files", False)):
        with pytest.raises(TilePlanError, match=what) as caught:
            plan_memory(replace(COST, files_bytes=files_bytes), max_ram_bytes=1)
        assert ("--tile" in str(caught.value.hint)) is is_advised


def test_without_a_budget_the_users_choice_holds() -> None:
    plan = plan_memory(COST, workers=5, batch=7, cores=2)
    assert (plan.workers, plan.batch, plan.outputs) == (5, 7, COST.concurrency + 1)
    assert plan_memory(COST, cores=2).workers == 2


@given(st.integers(0, CACHE_BYTES))
def test_no_more_is_cached_than_is_worth_keeping(worth: int) -> None:
    cost = replace(COST, cache_bytes=worth)
    for budget in (None, 2**34):
        plan = plan_memory(cost, max_ram_bytes=budget)
        assert plan.cache_bytes == max(worth, MIN_CACHE_BYTES)


def test_files_come_after_tiles_and_the_larger_of_the_two_counts() -> None:
    tiles = plan_memory(COST, workers=2, batch=2)
    small = plan_memory(replace(COST, files_bytes=tiles.transient_bytes), workers=2, batch=2)
    large = plan_memory(replace(COST, files_bytes=tiles.transient_bytes + 7), workers=2, batch=2)
    assert (small.total_bytes, large.total_bytes) == (tiles.total_bytes, tiles.total_bytes + 7)


@given(st.integers(0, 2**30), st.integers(2**30, 2**33))
def test_what_files_need_leaves_tiles_their_room(files_bytes: int, budget: int) -> None:
    cost = replace(COST, files_bytes=files_bytes)
    try:
        plan = plan_memory(cost, max_ram_bytes=budget, cores=8)
    except TilePlanError:
        assert budget < LEAST_BYTES or budget < cost.lasting_bytes + files_bytes
        return
    assert plan.total_bytes <= budget
    assert plan.workers == plan_memory(COST, max_ram_bytes=budget, cores=8).workers


def test_peak_memory_is_known_here() -> None:
    reset_peak_rss()
    peak = peak_rss_mb()
    assert peak is None or peak > 1
