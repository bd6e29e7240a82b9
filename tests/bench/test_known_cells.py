"""Cells that were painted are found, each once and whole, whatever tiles and regions there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg.bench.slides.oracle_slide import (
    OracleEngine,
    Pattern,
    PatternSlide,
    oracle_bundle,
    regions_of,
)
from cellseg.runtime.infer import infer_slide
from cellseg.runtime.jobs.options import InferOptions

SIDE_PX = 1400  # a little more than the pattern, so that it comes round


def run(folder: Path, slide: PatternSlide, tile_px: int) -> Any:
    folder.mkdir()
    options = InferOptions(
        model=oracle_bundle(folder / "oracle.cellseg").path,
        tile_px=tile_px,
        write=("classes", "labels", "geojson", "cells", "csv"),
    )
    return infer_slide(slide, folder, options, open_engine=lambda _, __, hw: OracleEngine(hw))


def slide(folder: Path, touching: bool) -> PatternSlide:
    pattern = Pattern.make(touching)
    return PatternSlide(pattern, SIDE_PX, pattern.save(folder / "pattern.npy"))


def test_every_cell_is_found_once_and_whole(tmp_path: Path) -> None:
    painted = slide(tmp_path, touching=False)
    with regions_of(512):
        result = run(tmp_path / "a", painted, 512)
    labels = tifffile.imread(result.folder / "labels.ome.tif")
    truth = painted.truth((0, 0), (SIDE_PX, SIDE_PX))
    assert ((labels > 0) == (truth > 0)).all()
    pairs = np.unique(np.stack([labels[labels > 0], truth[truth > 0]]), axis=1)
    count = len(np.unique(truth)) - 1
    assert pairs.shape == (2, count)  # one number a cell, one cell a number
    assert result.report["cells_summary"]["total"] == count > 3000


def test_tables_and_outlines_are_the_same_bytes_for_any_tiles_and_regions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted, hashes = slide(tmp_path, touching=True), []
    for tile_px, core_px in [(512, 1024), (1024, 512), (256, 4096)]:
        monkeypatch.setattr("cellseg.runtime.cells.measured.BATCH_CELLS", 1000)
        with regions_of(core_px):
            report = run(tmp_path / str(core_px), painted, tile_px).report
        hashes.append({name: facts["sha256"] for name, facts in report["outputs"].items()})
    assert hashes[0] == hashes[1] == hashes[2]
    assert len(hashes[0]) == 5
