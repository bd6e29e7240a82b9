"""All cells of a run: told apart region by region into the store, then read as one label map."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.cells.joins import join_pieces, measure_large
from cellseg.runtime.cells.measure import CellMeasurer
from cellseg.runtime.cells.measured import MEASURED, MeasuredCells, even_lots, merged
from cellseg.runtime.cells.regions import LabellerWithin, RegionGrid, SeededLabeller, find_cells
from cellseg.runtime.cells.runs import LARGEST_PX, CellRuns
from cellseg.runtime.cells.summary import summarize_cells
from cellseg.runtime.machine.ahead import in_order
from cellseg.runtime.shapes.outlines import DEFAULT_TOLERANCE_PX
from cellseg.runtime.slides.slide import paste
from cellseg.runtime.slides.tilecache import TileCache
from cellseg.runtime.store.labels import StoredPlane
from cellseg.runtime.store.packing import pack, unpack_all
from cellseg.runtime.store.result_store import PackedRegion
from cellseg.runtime.view.doubts import small_doubt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from cellseg.runtime.cells.joins import Joins
    from cellseg.runtime.cells.measure import Picture
    from cellseg.runtime.cells.regions import Labeller
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.store.result_store import ResultStore

__all__ = ["CACHE_BYTES", "RegionWork", "SlideCells", "tell_apart"]

_LOG = logging.getLogger(__name__)
CACHE_BYTES = 48 << 20
_UNCOMMITTED = 16
# What the store keeps of each cell that reaches into a region.
_CELL = np.dtype([("first", "<i8"), ("runs", "<i4"), ("is_own", "?"), ("is_cut", "?")])
_PLACE = np.dtype("<u2")  # places in a core


class SlideCells:
    """The cells of a slide, numbered 1..n in raster order of their first pixels.

    A label source: windows are put together from the store's regions when they are read.

    Parameters
    ----------
    job : Job
        What was run.
    store : ResultStore
        Holds all regions; stays open and in the caller's hands.
    measurer : CellMeasurer
        Measures cells that no region's window held whole.

    Attributes
    ----------
    counts : dict
        Cells of each class, by its name; a cell's class is that of most of its pixels.
    large_count : int
        Cells that no region's window held whole.
    """

    dtype = np.dtype(np.uint32)

    def __init__(self, job: Job, store: ResultStore, measurer: CellMeasurer) -> None:
        self.hw = job.view.hw
        self._store, self._grid = store, RegionGrid(job.view.hw)
        self._job = job
        self._cache = TileCache(CACHE_BYTES)
        self._joins = self._joined()
        self.large_count = len(self._joins.roots)
        firsts = [lot["first"].copy() for lot in self._region_records()]
        # Eight bytes a cell: the one thing here that grows with what the slide holds.
        self._first = np.sort(np.concatenate([self._joins.roots, *firsts]))
        self._large = [
            measure_large(self, int(number), self._joins.names_of(int(first)), self._grid, measurer)
            for number, first in zip(
                self._numbers(self._joins.roots), self._joins.roots, strict=True
            )
        ]
        by_class = sum(
            (np.bincount(lot["class"], minlength=len(job.class_names)) for lot in self.records()),
            np.zeros(len(job.class_names), np.int64),
        )
        self.counts: Mapping[str, int] = dict(
            zip(job.class_names[1:], by_class.tolist()[1:], strict=True)
        )

    def __len__(self) -> int:
        return len(self._first)

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[np.uint32]:
        """Return a window; see `cellseg.runtime.store.labels.LabelSource`."""
        touched = list(self._grid.touching(y0, x0, h, w))
        if len(touched) == 1:
            top, left, *_ = self._grid.core(touched[0])
            part = self._region(touched[0])[y0 - top :, x0 - left :][:h, :w]
            return np.ascontiguousarray(part)  # once, not by each who needs it so
        window = np.empty((h, w), np.uint32)
        for index in touched:
            top, left, *_ = self._grid.core(index)
            paste(window, self._region(index), (top - y0, left - x0))
        return window

    def records(self) -> Iterator[NDArray[Any]]:
        """Yield the records of all cells, in any order."""
        yield from self._region_records()
        yield from (cell.records for cell in self._large)

    def summary(self) -> dict[str, Any]:
        """Return ``cells_summary`` of run.json."""
        found = summarize_cells(self.records, self._job)
        card, median_px = self._job.bundle.manifest, found["median_diameter_px"]
        doubt = small_doubt(self._job.view, card, found["total"], median_px)
        doubts = [] if doubt is None else [doubt]
        return {**found, "larger_than_a_region": self.large_count, "doubts": doubts}

    def batches(self) -> Iterator[MeasuredCells]:
        """Yield all cells in the order of their numbers; see `MeasuredSource`."""
        yield from even_lots(self._sorted())

    def _sorted(self) -> Iterator[MeasuredCells]:
        rows, columns = self._grid.shape
        for row in range(rows):
            parts = [self._measured(row * columns + column) for column in range(columns)]
            parts += [cell for cell in self._large if self._row_of(cell) == row]
            # A row of cores holds the first pixels of consecutive numbers.
            yield from merged([part for part in parts if len(part)])

    def _row_of(self, cell: MeasuredCells) -> int:
        return int(cell.records["first"][0]) // self.hw[1] // self._grid.core_px

    def _measured(self, index: int) -> MeasuredCells:
        found = MeasuredCells.from_packed(*self._store.measured(index))
        kept = self._is_whole(found.records)
        return found if kept.all() else found.taken(np.flatnonzero(kept))

    def _region_records(self) -> Iterator[NDArray[Any]]:
        for packed in self._store.region_records():
            found = unpack_all(packed, MEASURED)
            yield found[self._is_whole(found)]

    def _is_whole(self, records: NDArray[Any]) -> NDArray[np.bool_]:
        """Tell which cells are no part of one that was put together from pieces."""
        return np.isin(records["first"], self._joins.names, invert=True)

    def _region(self, index: int) -> NDArray[np.uint32]:
        return self._cache.get(index, lambda: self._numbered(index))

    def _numbered(self, index: int) -> NDArray[np.uint32]:
        runs, cells = self._named(index)
        numbers = self._numbers(self._joins.resolved(cells["first"]))
        return runs.painted(self._grid.core(index)[2:], numbers)

    def _numbers(self, first: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the numbers of cells by their first pixels; 0 for what is the name of none."""
        place = np.searchsorted(self._first, first)
        is_known = np.append(self._first, -1)[place] == first
        return np.where(is_known, place + 1, 0).astype(np.uint32)

    def _named(self, index: int) -> tuple[CellRuns, NDArray[Any]]:
        runs, cells = self._store.region(index)
        return _unpacked(runs, found := unpack_all(cells, _CELL)), found

    def _local(self, index: int) -> NDArray[np.uint32]:
        return self._named(index)[0].painted(self._grid.core(index)[2:])

    def _joined(self) -> Joins:
        """Put the pieces of cells together that no region's window held whole."""
        pieces: list[int] = []
        links: list[tuple[int, int]] = []
        for index, packed in self._store.region_links():
            cells = self._named(index)[1]
            pieces += cells["first"][cells["is_cut"]].tolist()
            links += map(tuple, unpack_all(packed, np.dtype(np.int64)).reshape(-1, 2).tolist())
        cache = TileCache(CACHE_BYTES)

        def name_at(pixel: int) -> int | None:
            y, x = divmod(pixel, self.hw[1])
            index = next(self._grid.touching(y, x, 1, 1))
            labels = cache.get(index, lambda: self._local(index))
            label = int(labels[y % self._grid.core_px, x % self._grid.core_px])
            return int(self._named(index)[1]["first"][label - 1]) if label else None

        return join_pieces(pieces, links, name_at)


def tell_apart(
    job: Job,
    store: ResultStore,
    threads: int,
    commit: Callable[[], None],
    progress: Callable[[int, int], None] | None = None,
    tolerance_px: float = DEFAULT_TOLERANCE_PX,
    picture: Picture | None = None,
) -> SlideCells:
    """Tell the cells of a run apart; regions that are in the store already are not done again.

    Parameters
    ----------
    job : Job
        Of a model that tells cells apart.
    store : ResultStore
        Holds all tiles with their interior.
    threads : int
        Regions at a time; see `cellseg.runtime.memory.footprint.region_threads`.
    commit : callable
        Makes what was put into the store last.
    progress : callable, optional
        Called with regions done and all regions.
    tolerance_px : float
        Of outlines.
    picture : Picture, optional
        Where cells are measured, if a part of the slide is kept; see `RegionWork`.

    Returns
    -------
    SlideCells
    """
    grid = RegionGrid(job.view.hw)
    work = RegionWork(job, store, tolerance_px, picture=picture)
    there = store.begin_regions(work.made_with)
    left = np.setdiff1d(np.arange(len(grid)), there, assume_unique=True)
    done = len(grid) - len(left)
    with ThreadPoolExecutor(threads) as pool:
        for index, found in in_order(pool, work, left.tolist(), 2 * threads):
            store.put_region(index, found)
            done += 1
            if done % _UNCOMMITTED == 0:
                commit()
            if progress is not None:
                progress(done, len(grid))
    commit()
    cells = SlideCells(job, store, work.measurer)
    if cells.large_count:
        _LOG.info(
            "cells of more than %d px, put together from pieces: %d", LARGEST_PX, cells.large_count
        )
    return cells


class RegionWork:
    """Tells the cells of one region apart and measures them; called from several threads.

    Parameters
    ----------
    job : Job
        Of a model that tells cells apart.
    store : ResultStore
        Holds the tiles.
    tolerance_px : float
        Of outlines.
    is_there : bool, shape (tiles,), optional
        Which tiles the store has; see `StoredPlane`.
    picture : Picture, optional
        Where cells are measured: `cellseg.runtime.cells.measure.measured_view`, the default, or a
        copy.

    Attributes
    ----------
    made_with : dict
        What regions depend on besides the run's identity, as JSON values.
    """

    def __init__(
        self,
        job: Job,
        store: ResultStore,
        tolerance_px: float,
        is_there: NDArray[np.bool_] | None = None,
        picture: Picture | None = None,
    ) -> None:
        rule = job.cell_rule
        assert rule is not None
        self._grid = RegionGrid(job.view.hw)
        plane = partial(StoredPlane, job.plan, store, is_there=is_there)
        classes = plane("classes")
        self.labeller: Labeller = SeededLabeller(classes, plane("interior"), rule)
        for limit in job.limits:
            self.labeller = LabellerWithin(self.labeller, limit)
        probability = plane("probability") if "probability" in job.planes else None
        self.measurer = CellMeasurer.of(job, classes, probability, tolerance_px, picture)
        self.made_with = {
            "planes": list(job.planes),
            "tolerance_px": tolerance_px,
            "record_bytes": MEASURED.itemsize,
            "labels": "runs",
        }

    def __call__(self, index: int) -> tuple[int, PackedRegion]:
        """Return a region's index and what the store keeps of it."""
        found = find_cells(self.labeller, self._grid.core(index))
        cells = np.zeros(len(found.first), _CELL)
        cells["first"], cells["is_own"], cells["is_cut"] = found.first, found.is_own, found.is_cut
        cells["runs"] = found.cells.counts
        measured = self.measurer.measure_own(found)
        return index, PackedRegion(
            runs=pack(found.cells.runs.T.astype(_PLACE)),
            cells=pack(cells),
            records=pack(measured.records),
            outlines=measured.packed_outlines(),
            links=pack(found.links) if found.is_cut.any() else None,
        )


def _unpacked(runs: bytes, cells: NDArray[Any]) -> CellRuns:
    """Return the cells of a core as they were packed: all y, then all first and last columns."""
    starts = np.concatenate(([0], np.cumsum(cells["runs"]))).astype(np.int32)
    places = unpack_all(runs, _PLACE).reshape(3, -1)
    return CellRuns(np.ascontiguousarray(places.T, np.int32), starts)
