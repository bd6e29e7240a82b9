"""What a run will hold is counted beforehand; little of it grows with the slide."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from cellseg.errors import TilePlanError
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.bundles.manifest import Head
from cellseg.runtime.jobs.job import prepare
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.jobs.outputs import DEFAULT_OUTPUTS, OUTPUTS, OVERVIEW_LONGEST_PX
from cellseg.runtime.memory.budget import BASE_BYTES, EngineUsage, plan_memory
from cellseg.runtime.memory.footprint import (
    files_bytes,
    held_bytes,
    memory_for,
    region_threads,
    tile_cost,
)
from cellseg.runtime.memory.usage import try_engine
from cellseg.runtime.shapes.geojson import Region
from cellseg.runtime.shapes.roi import Roi
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.tiles.plan import plan_tiles
from cellseg.runtime.tissue.mask import TissueMask
from tests.fakes import CELL_HEAD, IdentityEngine, fake_bundle, nuclei_picture, run_fake

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.runtime.jobs.job import Job

USAGE = EngineUsage(0, 256)
GIGAPIXEL_SIDES = (32_768, 65_536, 131_072)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    bundle = Bundle.open(fake_bundle(tmp_path / "fake.cellseg").path)
    return prepare(ArraySlide(nuclei_picture(90, 120)), bundle, InferOptions())


def of_side(job: Job, side: int, *, part: float = 1.0) -> Job:
    """Return the job as it would be for a square slide of which a part is tissue."""
    plan = plan_tiles((side, side), 1024, 96, 16)
    mask = TissueMask(np.ones((min(4096, side // 16),) * 2, bool), (16.0, 16.0), "bright")
    todo = np.arange(int(len(plan) * part))
    view = SimpleNamespace(hw=(side, side), scale=1.0, mpp=None)
    return replace(job, plan=plan, mask=mask, todo=todo, view=view)  # type: ignore[arg-type]


def test_what_writers_hold_does_not_grow_with_a_slide(job: Job) -> None:
    sizes = [files_bytes(of_side(job, side)) for side in GIGAPIXEL_SIDES]
    assert sizes[0] == sizes[1] == sizes[2]
    assert sizes[0] > OVERVIEW_LONGEST_PX**2 * 3  # the class map and the encoded picture, twice


def test_what_grows_with_a_slide_is_a_few_megabytes_a_gigapixel(job: Job) -> None:
    sizes = [held_bytes(of_side(job, side, part=0.02)) / 2**20 for side in GIGAPIXEL_SIDES]
    assert sizes[0] < sizes[1] < sizes[2] < 64
    assert held_bytes(job) < 2**16


def test_one_to_sixteen_gigapixels_are_planned_within_ten_percent(job: Job) -> None:
    engine = IdentityEngine((1024, 1024), concurrency=2)
    options = InferOptions(max_ram_bytes=1536 * 2**20)
    engine.name = "openvino"
    plans = [
        memory_for(of_side(job, side, part=0.02), engine, options, 2, USAGE)
        for side in GIGAPIXEL_SIDES
    ]
    totals = [plan.total_bytes for plan in plans]
    assert max(totals) <= 1536 * 2**20
    assert max(totals) / min(totals) < 1.1
    assert len({(plan.workers, plan.batch) for plan in plans}) == 1


def telling_cells(job: Job) -> Job:
    card = job.bundle.manifest
    head = Head.model_validate(CELL_HEAD)
    bundle = replace(job.bundle, manifest=card.model_copy(update={"head": head}))
    return replace(job, bundle=bundle)


@pytest.mark.parametrize("side", [500, 2000, 32_768])
def test_cells_are_counted_by_the_windows_that_an_image_has(job: Job, side: int) -> None:
    plain, cells = of_side(job, side), of_side(telling_cells(job), side)
    usual_px, grown_px = (min(side, 1024 + 2 * margin) ** 2 for margin in (128, 512))
    least = (usual_px + grown_px) * 26  # measured: one window that grew, beside a usual one
    assert least < files_bytes(cells) < files_bytes(plain) + 1.5 * least


def test_of_a_strongly_reduced_slide_what_is_read_counts_too(job: Job) -> None:
    cells = of_side(telling_cells(job), 2000)
    reduced = replace(cells, view=SimpleNamespace(hw=cells.view.hw, scale=3.9, mpp=None))
    assert files_bytes(reduced) > files_bytes(cells) + 2**25


def test_cells_are_told_apart_by_as_many_threads_as_have_room(job: Job) -> None:
    cells = of_side(telling_cells(job), 32_768)
    cost = tile_cost(cells, USAGE, 1)
    least = cost.lasting_bytes + cost.files_bytes

    def threads(budget: int | None) -> int:
        return region_threads(cells, plan_memory(cost, max_ram_bytes=budget, cores=8), 8)

    assert threads(None) == 8
    assert threads(least) == 1
    assert threads(least + 2**28) in range(4, 8)
    assert threads(2**34) == 8


def test_what_writers_leave_in_memory_is_counted_of_all_that_is_made(job: Job) -> None:
    def files(*names: str) -> int:
        return tile_cost(job, USAGE, 1, outputs=names).files_bytes - files_bytes(job)

    assert files(*DEFAULT_OUTPUTS) == 0
    assert files("dicom-seg", "classes") == OUTPUTS["dicom-seg"].left_bytes > 90 * 2**20
    assert files(*OUTPUTS) > files("dicom-seg") + 2**25


def test_more_outputs_of_a_finished_run_are_refused_where_they_do_not_fit(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    slide: Any = ArraySlide(nuclei_picture(90, 90))
    run_fake(slide, tmp_path / "out", bundle, write=("classes",))
    more: Any = {"write": ("classes", "colour-mask")}
    with pytest.raises(TilePlanError, match=r"needs about \d+ MiB") as caught:
        run_fake(slide, tmp_path / "out", bundle, max_ram_bytes=2**28, **more)
    needed = int(str(caught.value.hint).split("--max-ram ")[1].split("M")[0])
    result, _ = run_fake(slide, tmp_path / "out", bundle, max_ram_bytes=needed * 2**20, **more)
    assert "colour-mask.png" in result.report["outputs"]


def test_regions_masks_and_tables_are_counted(job: Job) -> None:
    ring = np.array([(0.0, 0), (90, 0), (45, 90)])
    roi = Roi.of([Region(None, ((ring,),))], 1.0, (90, 120), "r")
    assert held_bytes(replace(job, roi=roi)) == held_bytes(job) + roi.nbytes
    mask = TissueMask(np.ones((50, 60), bool), (2.0, 2.0), "given")
    assert held_bytes(replace(job, mask=mask)) == held_bytes(job) + 3000 - job.mask.mask.nbytes


def test_an_image_that_is_held_whole_is_counted_but_not_a_memory_map(
    job: Job, tmp_path: Path
) -> None:
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=(90, 120, 3))
    for pixels, held in ((np.zeros((90, 120, 3), np.uint8), 90 * 120 * 3), (mapped, 0)):
        slide = ArraySlide(pixels)
        assert slide.held_bytes == held
        without = replace(job, slide=SimpleNamespace(dtype=slide.dtype))  # type: ignore[arg-type]
        assert held_bytes(replace(job, slide=slide)) == held_bytes(without) + held


@pytest.mark.parametrize(
    ("compression", "times"), [("zlib", 3.0), ("jpeg2000", 6.0)], ids=["deflate", "jpeg2000"]
)
def test_a_stored_tile_as_large_as_the_image_is_counted_where_it_is_decoded(
    tmp_path: Path, compression: str, times: float
) -> None:
    bundle = Bundle.open(fake_bundle(tmp_path / "fake.cellseg").path)
    costs = []
    for name, side in (("small", 64), ("large", 2048)):
        path = tmp_path / f"{name}.tif"
        tile: Any = {"tile": (side, side), "compression": compression}
        tifffile.imwrite(path, np.zeros((2048, 2048, 3), np.uint8), photometric="rgb", **tile)
        with closing(open_slide(path, 0.5)) as slide:
            costs.append(tile_cost(prepare(slide, bundle, InferOptions()), USAGE, 1))
    more = round((2048**2 - 64**2) * 3 * times)
    assert costs[1].read_bytes - costs[0].read_bytes == more
    assert costs[1].files_bytes - costs[0].files_bytes == more


def test_an_engine_that_was_tried_is_counted_as_it_is(job: Job) -> None:
    expected = tile_cost(job, EngineUsage(10**6, 256), 2)
    assert expected.engine_bytes == 10**6 + 2 * expected.tile_px * 256
    for taken in (10**7, 10**9):
        assert tile_cost(job, USAGE, 2, taken).engine_bytes == taken


def test_an_engine_that_stays_is_counted_beside_the_files(job: Job) -> None:
    closed = replace(tile_cost(job, USAGE, 2, 2**29), files_bytes=2**30)
    kept = replace(closed, engine_stays=True)
    totals = [plan_memory(cost, workers=1, batch=1).total_bytes for cost in (closed, kept)]
    assert totals[1] - totals[0] == 2**29
    no_files = [replace(cost, files_bytes=0) for cost in (closed, kept)]
    totals = [plan_memory(cost, workers=1, batch=1).total_bytes for cost in no_files]
    assert totals[0] == totals[1]


def test_trying_an_engine_keeps_all_its_callers_busy_at_once() -> None:
    engine = IdentityEngine((64, 64), concurrency=3)
    assert try_engine(engine, None) == 0
    assert engine.calls == 3
    assert try_engine(engine, 0) >= 0


def test_a_budget_that_the_engine_breaks_is_refused_with_the_number_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    slide: Any = ArraySlide(nuclei_picture(90, 90))
    monkeypatch.setattr("cellseg.runtime.infer.try_engine", lambda *_: 2 * 2**30)
    with pytest.raises(TilePlanError, match=r"need about \d+ MiB") as caught:
        run_fake(slide, tmp_path / "out", bundle, max_ram_bytes=2**30)
    needed = int(str(caught.value.hint).split("--max-ram ")[1].split("M")[0])
    assert needed * 2**20 >= 2 * 2**30 + BASE_BYTES
    result, _ = run_fake(slide, tmp_path / "out", bundle, max_ram_bytes=needed * 2**20)
    assert result.report["status"] == "done"
