"""Pixels that cells are measured in: those of the slide, decoded once for network and cells."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from cellseg.runtime.run.kept_picture import KeptPicture
from cellseg.runtime.run.session import TileSession
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.slides.source_tiles import SourceTiles, source_of
from cellseg.runtime.tiles.plan import plan_tiles
from cellseg.runtime.view.working import WorkingView
from tests.fakes import CELL_HEAD, fake_bundle, nuclei_picture, run_fake
from tests.slides import scene

VIEW = WorkingView(ArraySlide(scene(150, 230), mpp=0.25), model_mpp=0.4)
PLAN = plan_tiles(VIEW.hw, tile_px=48, halo_px=8, stride_px=4)
TILE_BYTES = 48 * 48 * 3


class Counted:
    """A view that notes what is read of it."""

    def __init__(self, view: WorkingView) -> None:
        self._view, self.hw, self.mpp = view, view.hw, view.mpp
        self.boxes: list[tuple[int, ...]] = []

    def read(self, *box: int) -> Any:
        self.boxes.append(box)
        return self._view.read(*box)


@given(st.data(), st.integers(1, 12))
def test_any_window_is_the_slides_whatever_is_kept(data: st.DataObject, tiles: int) -> None:
    kept = KeptPicture(VIEW, PLAN, tiles * TILE_BYTES)
    for index in data.draw(st.lists(st.integers(0, len(PLAN) - 1), max_size=8)):
        kept.keep(PLAN.tile(index))
    height, width = VIEW.hw
    for _ in range(3):
        y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        h, w = data.draw(st.integers(1, height - y0)), data.draw(st.integers(1, width - x0))
        np.testing.assert_array_equal(kept.read(y0, x0, h, w), VIEW.read(y0, x0, h, w))


def test_what_is_kept_is_not_read_again_until_it_is_dropped() -> None:
    view, tile = Counted(VIEW), PLAN.tile(4)
    kept = KeptPicture(view, PLAN)
    kept.keep(tile)
    kept.read(*tile.keep_yx, 3, 5)
    assert view.boxes == [(*tile.keep_yx, *tile.keep_hw)]
    kept.drop(tile)
    kept.drop(tile)
    kept.read(*tile.keep_yx, 3, 5)
    assert len(view.boxes) == 2
    kept.clear()
    kept.keep(tile)
    assert len(view.boxes) == 3


@pytest.mark.parametrize("scale", [1, 2])
def test_a_run_that_measures_cells_decodes_each_stored_tile_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: int
) -> None:
    picture = nuclei_picture(2300, 250).repeat(scale, 0).repeat(scale, 1)
    path, um = tmp_path / "tall.tif", scale * 1e4 / 0.5
    stored = {"tile": (64, 64), "photometric": "rgb", "compression": "zlib"}
    tifffile.imwrite(path, picture, resolution=(um, um), resolutionunit="CENTIMETER", **stored)
    decoded: Counter[tuple[int, int, int]] = Counter()
    made, begin = SourceTiles._made, TileSession.run

    def counted(self: SourceTiles, *tile: int) -> Any:
        decoded[tile] += 1
        return made(self, *tile)

    def run(self: TileSession, *arguments: Any) -> None:
        source = source_of(self._job.slide)
        assert source is not None
        source.cache.clear()
        source.cache.resize(20 * scale * 5 * scale * source.tile_bytes(0))  # less than a region
        decoded.clear()
        begin(self, *arguments)

    monkeypatch.setattr(SourceTiles, "_made", counted)
    monkeypatch.setattr(TileSession, "run", run)
    bundle = fake_bundle(tmp_path / "m.cellseg", head=CELL_HEAD, mpp=0.5).path
    options = {"tile_px": 128, "tissue_mask": False, "write": ("cells",)}
    result = run_fake(path, tmp_path / "out", bundle, **options)[0]
    assert sum(result.report["cells"].values()) > 100
    assert set(decoded.values()) == {1}
