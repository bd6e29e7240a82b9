"""Cells are told apart behind the tiles, in any order of them, and are the same as at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cellseg.runtime.cells.slide_cells as slide_cells
import cellseg.runtime.run.cell_feed as cell_feed
from cellseg.runtime.cells.regions import RegionGrid
from cellseg.runtime.cells.slide_cells import tell_apart
from cellseg.runtime.run.cell_feed import CellFeed
from cellseg.runtime.run.stages import StageClock
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.packing import pack
from cellseg.runtime.store.result_store import ResultStore
from cellseg.runtime.tiles.plan import plan_tiles
from tests.runtime.cells.test_regions import field_of_nuclei
from tests.runtime.cells.test_slide_cells import HW, FakeJob
from tests.slides import scene

PLANES = field_of_nuclei(11, HW, 260)


@pytest.fixture(autouse=True)
def _small_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (slide_cells, cell_feed):
        monkeypatch.setattr(module, "RegionGrid", lambda hw: RegionGrid(hw, core_px=96))


def put(store: ResultStore, tile: Any) -> None:
    names = ("classes", "interior")
    store.put(tile.index, {n: pack(p[tile.outer]) for n, p in zip(names, PLANES, strict=True)})


def begun(folder: Path) -> tuple[Any, ResultStore]:
    folder.mkdir()
    plan = plan_tiles(HW, tile_px=96, halo_px=16, stride_px=4)
    store = ResultStore(folder)
    store.begin({"slide": "a"})
    return FakeJob(plan, ArraySlide(scene(*HW))), store


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slide_cells, "RegionGrid", lambda hw: RegionGrid(hw, core_px=96))
        job, store = begun(tmp_path_factory.mktemp("store") / "s")
        for tile in job.plan:
            put(store, tile)
        return tell_apart(job, store, 1, lambda: None).read(0, 0, *HW)


@given(st.randoms(use_true_random=False), st.integers(0, 20))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_of_tiles_gives_the_cells_of_the_end(
    tmp_path_factory: pytest.TempPathFactory, expected: np.ndarray, random: Any, stored: int
) -> None:
    job, store = begun(tmp_path_factory.mktemp("run") / "s")
    order = list(job.plan)
    random.shuffle(order)
    for tile in order[:stored]:
        put(store, tile)
    feed = CellFeed(job, store, 0.5, StageClock())
    for tile in order[stored:]:
        put(store, tile)
        feed.tile_stored(tile.index)
    feed.stop()
    cells = tell_apart(job, store, 1, lambda: None)
    np.testing.assert_array_equal(cells.read(0, 0, *HW), expected)
    store.close()


def test_regions_are_done_before_the_last_tile_and_not_again(tmp_path: Path) -> None:
    job, store = begun(tmp_path / "s")
    clock, done_again = StageClock(), []
    feed = CellFeed(job, store, 0.5, clock)
    *others, last = list(job.plan)
    for tile in others:
        put(store, tile)
        feed.tile_stored(tile.index)
    feed._pool.shutdown(wait=True)
    put(store, last)
    tell_apart(job, store, 1, lambda: None, lambda done, _: done_again.append(done))
    total = len(RegionGrid(HW, core_px=96))
    assert 0 < len(done_again) < total / 2
    assert clock.seconds()["cells"] is not None


def test_pixels_are_dropped_with_the_last_region_that_waits_for_them(tmp_path: Path) -> None:
    job, store = begun(tmp_path / "s")
    feed = CellFeed(job, store, 0.5, StageClock())
    held = feed.picture._cache._tiles
    for tile in job.plan:
        feed.picture.keep(tile)
    assert len(held) == len(job.plan)
    for tile in job.plan:
        put(store, tile)
        feed.tile_stored(tile.index)
    feed._pool.shutdown(wait=True)
    assert not feed._todo
    assert not held


def test_what_a_region_raises_reaches_the_run(tmp_path: Path) -> None:
    job, store = begun(tmp_path / "s")
    feed = CellFeed(job, store, 0.5, StageClock())

    def broken(_: int) -> Any:
        raise ZeroDivisionError

    def feed_all() -> None:
        for tile in job.plan:
            put(store, tile)
            feed.tile_stored(tile.index)
            feed._pool.submit(int).result()  # what was begun has ended

    feed._work = broken  # type: ignore[assignment]
    with pytest.raises(ZeroDivisionError):
        feed_all()
    feed.stop()
