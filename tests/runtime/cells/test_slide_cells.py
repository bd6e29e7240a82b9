"""Cells of a run, in the store: one numbering whatever the tiles, resumable, read by window."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import cellseg.runtime.cells.file_cells as file_cells
import cellseg.runtime.cells.slide_cells as slide_cells
from cellseg.runtime.cells.file_cells import FileCells
from cellseg.runtime.cells.joins import measure_large
from cellseg.runtime.cells.measure import CellMeasurer
from cellseg.runtime.cells.measured import MEASURED, MeasuredCells
from cellseg.runtime.cells.parting import label_cells
from cellseg.runtime.cells.regions import RegionGrid
from cellseg.runtime.cells.runs import CellRuns
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.labels import ArrayLabels
from cellseg.runtime.store.packing import pack
from cellseg.runtime.store.result_store import ResultStore
from cellseg.runtime.tiles.plan import plan_tiles
from cellseg.runtime.view.normalize import Intensities
from cellseg.runtime.view.working import WorkingView
from tests.runtime.cells.test_regions import RULE, field_of_nuclei
from tests.slides import scene

if TYPE_CHECKING:
    from pathlib import Path

HW = (300, 420)


@dataclass(frozen=True)
class FakeJob:
    """What cells need of a job."""

    plan: Any
    slide: Any
    class_names = ("background", "nucleus")
    planes = ("classes", "interior")
    seen = Intensities((0, 255))
    roi = None
    limits = ()
    cell_rule = RULE

    @property
    def todo(self) -> np.ndarray:
        return np.arange(len(self.plan))

    @property
    def view(self) -> Any:
        return WorkingView(self.slide, None)

    @property
    def bundle(self) -> Any:
        return SimpleNamespace(manifest=SimpleNamespace(mpp=None))


@pytest.fixture
def planes(monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    monkeypatch.setattr(
        slide_cells, "RegionGrid", lambda hw: RegionGrid(hw, core_px=128)
    )  # several regions in a small image
    return field_of_nuclei(11, HW, 260)


def run(folder: Path, planes: tuple[np.ndarray, np.ndarray], tile_px: int) -> tuple[Any, Any]:
    folder.mkdir(exist_ok=True)
    plan = plan_tiles(HW, tile_px=tile_px, halo_px=16, stride_px=4)
    job: Any = FakeJob(plan, ArraySlide(scene(*HW)))
    store = ResultStore(folder)
    store.begin({"slide": "a"})
    for tile in job.plan:
        names = ("classes", "interior")
        store.put(tile.index, {n: pack(p[tile.outer]) for n, p in zip(names, planes, strict=True)})
    return job, store


def commit(store: ResultStore) -> Any:
    return lambda: store.commit(0.0, {})


@pytest.mark.parametrize("tile_px", [96, 256])
def test_cells_of_the_store_are_those_of_the_whole_image(
    tmp_path: Path, planes: tuple[np.ndarray, np.ndarray], tile_px: int
) -> None:
    job, store = run(tmp_path, planes, tile_px)
    cells = slide_cells.tell_apart(job, store, 2, commit(store))
    expected, first = label_cells(planes[0] > 0, planes[1], RULE)
    np.testing.assert_array_equal(cells.read(0, 0, *HW), expected)
    np.testing.assert_array_equal(cells.read(100, 50, 77, 300), expected[100:177, 50:350])
    assert len(cells) == len(first)
    assert cells.counts == {"nucleus": len(first)}
    store.close()


def test_regions_that_were_done_before_a_stop_are_not_done_again(
    tmp_path: Path, planes: tuple[np.ndarray, np.ndarray]
) -> None:
    job, store = run(tmp_path, planes, 96)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slide_cells.tell_apart(job, store, 1, commit(store), stop)
    store.close()
    store = ResultStore(tmp_path)
    store.begin({"slide": "a"})
    seen: list[int] = []
    cells = slide_cells.tell_apart(job, store, 1, commit(store), lambda done, _: seen.append(done))
    assert seen[0] == 6
    expected, _ = label_cells(planes[0] > 0, planes[1], RULE)
    np.testing.assert_array_equal(cells.read(0, 0, *HW), expected)
    store.close()


def test_a_slide_without_cells_has_none(tmp_path: Path) -> None:
    blank = np.zeros(HW, np.uint8)
    job, store = run(tmp_path, (blank, blank), 96)
    cells = slide_cells.tell_apart(job, store, 1, commit(store))
    assert cells.counts == {"nucleus": 0}
    assert not cells.read(0, 0, *HW).any()
    store.close()


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cells of more than some 90 px reach beyond every window."""
    for module in (slide_cells, file_cells):
        monkeypatch.setattr(module, "RegionGrid", lambda hw: RegionGrid(hw, core_px=64))
    for module in ("regions", "file_cells"):
        monkeypatch.setattr(f"cellseg.runtime.cells.{module}.LARGEST_PX", 16)
    monkeypatch.setattr("cellseg.runtime.cells.regions.find_cells.__defaults__", (16,))


def large_and_small() -> np.ndarray:
    """Classes of a ring, a bar beside it, a worm around corners, specks, and two more.

    Of these one core sees all and its neighbour does not: one lies to the right, one to the left.
    """
    classes = np.zeros(HW, np.uint8)
    y, x = np.mgrid[: HW[0], : HW[1]]
    away = np.hypot(y - 150, x - 130)
    classes[(away < 115) & (away > 60)] = 1
    classes[20:280, 270:276] = 1
    classes[10:14, 280:400] = classes[10:200, 396:400] = classes[196:200, 300:400] = 1
    classes[140:160, 120:140] = classes[100:110, 300:310] = classes[120:131, 250:259] = 1
    classes[286:290, 100:140] = 1
    classes[292, 230:250] = classes[293:297, 180:250] = 1
    return classes


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("most_px", [1 << 24, 4000], ids=["whole", "reduced"])
def test_cells_larger_than_any_window_are_kept_whole_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_px: int
) -> None:
    monkeypatch.setattr("cellseg.runtime.cells.joins._MOST_PX", most_px)
    classes = large_and_small()
    job, store = run(tmp_path, (classes, classes * np.uint8(255)), 96)
    cells = slide_cells.tell_apart(job, store, 2, commit(store))
    expected, first = label_cells(classes > 0, classes * np.uint8(255), RULE)
    np.testing.assert_array_equal(cells.read(0, 0, *HW), expected)
    assert (len(cells), cells.large_count) == (len(first), 5)
    assert cells.counts == {"nucleus": len(first)}
    measurer = CellMeasurer.of(job, ArrayLabels(classes), None)
    whole = measurer.measure(CellRuns.of_labels(expected), first, (0, 0))
    later = FileCells(ArrayLabels(expected), measurer, len(first))
    for source in (cells, later):
        found = MeasuredCells.sorted(list(source.batches()))
        exact = MEASURED.names if most_px > 4000 else ("first", "area_px", "box", "touches_border")
        for name in exact:
            np.testing.assert_array_equal(found.records[name], whole.records[name], err_msg=name)
        np.testing.assert_allclose(found.records["centroid_yx"], whole.records["centroid_yx"])
        if most_px > 4000:
            np.testing.assert_array_equal(found.outlines.points, whole.outlines.points)
        areas = found.outlines.areas
        assert len(found) == len(whole)
        assert areas.sum() / 4 == pytest.approx(expected.astype(bool).sum(), rel=0.1)
    store.close()


def test_a_cell_that_is_not_at_the_first_of_its_names_is_found_at_the_others() -> None:
    labels = np.zeros(HW, np.uint32)
    labels[200:220, 290:330] = 7
    image = scene(*HW)
    job: Any = FakeJob(plan_tiles(HW, 96, 16, 4), ArraySlide(image, path="a.png"))
    measurer = CellMeasurer.of(job, ArrayLabels((labels > 0).astype(np.uint8)), None)
    names = [40 * HW[1] + 10, 200 * HW[1] + 300]
    found = measure_large(ArrayLabels(labels), 7, names, RegionGrid(HW, 64), measurer)
    assert found.records["area_px"].tolist() == [800]
    assert found.records["box"].tolist() == [[200, 290, 220, 330]]
    assert found.records["first"].tolist() == [names[0]]  # what its number goes by


@pytest.mark.usefixtures("small_windows")
def test_touching_cells_beside_a_large_one_stay_cells_of_their_own(tmp_path: Path) -> None:
    classes, interior = field_of_nuclei(4, HW, 300)
    classes[60:240, 100:300] = 1
    interior[60:240, 100:300] = 255
    job, store = run(tmp_path, (classes, interior), 96)
    cells = slide_cells.tell_apart(job, store, 1, commit(store))
    expected, first = label_cells(classes > 0, interior, RULE)
    np.testing.assert_array_equal(cells.read(0, 0, *HW), expected)
    assert len(cells) == len(first)
    assert cells.large_count >= 1
    store.close()
