"""The order of tiles: nothing lost, nothing decoded twice that the cache could have kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.run import session
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.source_tiles import TileGrid, source_of
from cellseg.runtime.tiles.order import band_columns, cache_for, in_bands
from cellseg.runtime.tiles.plan import plan_tiles
from tests.fakes import fake_bundle, nuclei_picture, run_fake

STORED_PX = 32
STORED_BYTES = STORED_PX * STORED_PX * 3


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_bands_hold_every_tile_once(rows: int, columns: int, band: int, seed: int) -> None:
    is_left = np.random.default_rng(seed).random(rows * columns) < 0.5
    tiles = np.flatnonzero(is_left)
    assert sorted(in_bands(tiles, columns, band).tolist()) == tiles.tolist()


def test_a_cache_for_the_whole_width_keeps_the_order_of_rows() -> None:
    plan = plan_tiles((600, 2000), 64, 6, 2)
    grid = TileGrid(600, 2000, STORED_PX, STORED_PX)
    band = band_columns(plan, 1.0, grid, STORED_BYTES, 1 << 30)
    assert band == len(plan.x)
    tiles = np.arange(len(plan))
    assert in_bands(tiles, len(plan.x), band).tolist() == tiles.tolist()


@given(st.integers(100, 20_000), st.integers(0, 12), st.sampled_from([16, 32, 200]))
def test_what_is_worth_keeping_is_a_row_or_a_band_that_decodes_little_twice(
    width: int, halo_px: int, stored_px: int
) -> None:
    plan, grid = plan_tiles((600, width), 64, halo_px, 2), TileGrid(600, width, 32, stored_px)
    stored_bytes = 32 * stored_px * 3
    band = band_columns(plan, 1.0, grid, stored_bytes, cache_for(plan, 1.0, grid, stored_bytes))
    shared_px = 2 * halo_px + stored_px
    # Bands are made equally wide, which can halve them at most.
    assert band == len(plan.x) or shared_px <= 0.1 * band * plan.x.core_px


def test_a_wide_slide_keeps_no_more_than_a_wide_one() -> None:
    wide, wider = (
        cache_for(
            plan_tiles((600, width), 64, 6, 2), 1.0, TileGrid(600, width, 32, 32), STORED_BYTES
        )
        for width in (10_000, 1_000_000)
    )
    assert wide == wider < 2**20


def test_a_cache_for_nothing_goes_down_column_by_column() -> None:
    plan, grid = plan_tiles((600, 2000), 64, 6, 2), TileGrid(600, 2000, STORED_PX, STORED_PX)
    assert band_columns(plan, 1.0, grid, STORED_BYTES, 0) == 1


@settings(deadline=None)
@given(
    st.integers(1, 400), st.integers(1, 4000), st.floats(0.3, 5.0), st.integers(16, 300),
    st.integers(0, 10**7),
)  # fmt: skip
def test_a_band_keeps_within_the_cache(
    height: int, width: int, scale: float, stored_px: int, cache_bytes: int
) -> None:
    plan = plan_tiles((height, width), 64, 6, 2)
    grid = TileGrid(int(height * scale) + 1, int(width * scale) + 1, stored_px, stored_px)
    tile_bytes = stored_px * stored_px * 3
    band = band_columns(plan, scale, grid, tile_bytes, cache_bytes)
    assert 1 <= band <= len(plan.x)
    if band > 1:
        # What the stored tiles under one row of the band take, counted pixel by pixel.
        right = min(width, plan.x.read_start(band - 1) + plan.x.read_px)
        columns = min(grid.cols, int(right * scale) // stored_px + 1)
        rows = min(grid.rows, int(plan.y.read_px * scale) // stored_px + 1)
        assert rows * columns * tile_bytes <= cache_bytes


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Write a slide of 8 x 63 stored tiles and no pyramid."""
    path = tmp_path / "wide.tif"
    options = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER", "compression": "zlib"}
    stored = (STORED_PX, STORED_PX)
    tifffile.imwrite(path, nuclei_picture(250, 2000), tile=stored, photometric="rgb", **options)
    return path


def run_with_cache(
    path: Path, out: Path, stored_tiles: int, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> Any:
    """Run with a cache of so many stored tiles, begun empty."""
    begin = session.TileSession.run

    def run(self: Any, memory: Any, progress: Any) -> None:
        source = source_of(self._job.slide)
        assert source is not None
        source.cache.clear()
        source.cache.resize(stored_tiles * STORED_BYTES)
        small = type(memory)(
            memory.workers, memory.batch, memory.outputs, stored_tiles * STORED_BYTES, memory.cost
        )
        begin(self, small, progress)

    monkeypatch.setattr(session.TileSession, "run", run)
    bundle = fake_bundle(out.parent / "fake.cellseg").path
    return run_fake(path, out, bundle, tile_px=64, tissue_mask=False, **options)[0]


@pytest.mark.parametrize("workers", [1, 4])
def test_each_stored_tile_is_decoded_once_where_the_cache_suffices(
    tmp_path: Path, wide: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    result = run_with_cache(wide, tmp_path / "a", 600, monkeypatch, workers=workers)
    assert result.report["input"]["source_tiles"] == {"touched": 8 * 63, "decoded": 8 * 63}


@pytest.mark.parametrize("workers", [1, 4])
def test_a_small_cache_decodes_few_stored_tiles_twice(
    tmp_path: Path, wide: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    result = run_with_cache(wide, tmp_path / "a", 130, monkeypatch, workers=workers)
    counts = result.report["input"]["source_tiles"]
    assert counts["touched"] == 8 * 63
    assert counts["decoded"] / counts["touched"] < 1.1


def test_the_order_changes_no_byte(
    tmp_path: Path, wide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = []
    for stored_tiles in (600, 60, 1):
        with monkeypatch.context() as patch:
            result = run_with_cache(wide, tmp_path / str(stored_tiles), stored_tiles, patch)
        outputs.append(result.report["outputs"])
    assert outputs[0] == outputs[1] == outputs[2]


def test_tiles_are_counted_only_during_the_pass(wide: Path) -> None:
    slide = open_slide(wide)
    source = source_of(slide)
    assert source is not None
    slide.read_region(0, (0, 0), (40, 40))
    source.begin_pass(0)
    slide.read_region(0, (0, 0), (40, 70))
    assert (source.pass_counts().touched, source.pass_counts().decoded) == (6, 2)
    slide.close()
