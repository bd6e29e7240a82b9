"""All cells of a run: told apart region by region into the store, then read as one label map."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.cell_summary import summarize_cells
from cellseg.runtime.labels import StoredPlane
from cellseg.runtime.measure import MEASURED, CellMeasurer, MeasuredCells, in_batches
from cellseg.runtime.outlines import DEFAULT_TOLERANCE_PX
from cellseg.runtime.regions import RegionGrid, SeededLabeller, find_cells
from cellseg.runtime.store import PackedRegion, pack, unpack, unpack_all
from cellseg.runtime.tilecache import TileCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from cellseg.runtime.job import Job
    from cellseg.runtime.labels import LabelSource
    from cellseg.runtime.store import ResultStore

__all__ = ["REGION_BYTES", "SlideCells", "tell_apart"]

REGION_BYTES = 80 << 20
"""What a thread holds while it tells the cells of a region apart: about 45 bytes a pixel."""

_CACHE_BYTES = 48 << 20
_UNCOMMITTED = 16
# What the store keeps of each cell that reaches into a region.
_CELL = np.dtype([("first", "<i8"), ("is_own", "?")])


class SlideCells:
    """The cells of a slide, numbered 1..n in raster order of their first pixels.

    A label source: windows are put together from the store's regions when they are read.

    Parameters
    ----------
    job : Job
        What was run.
    store : ResultStore
        Holds all regions; stays open and in the caller's hands.

    Attributes
    ----------
    counts : dict
        Cells of each class, by its name; a cell's class is that of most of its pixels.
    """

    dtype = np.dtype(np.uint32)

    def __init__(self, job: Job, store: ResultStore) -> None:
        self.hw = job.view.hw
        self._store, self._grid = store, RegionGrid(job.view.hw)
        self._job = job
        self._cache = TileCache(_CACHE_BYTES)
        firsts, by_class = [np.zeros(0, np.int64)], np.zeros(len(job.class_names), np.int64)
        for records in self.records():
            firsts.append(records["first"].copy())
            by_class += np.bincount(records["class"], minlength=len(by_class))
        # Eight bytes a cell: the one thing here that grows with what the slide holds.
        self._first = np.sort(np.concatenate(firsts))
        found = by_class.tolist()
        self.counts: Mapping[str, int] = dict(zip(job.class_names[1:], found[1:], strict=True))

    def __len__(self) -> int:
        return len(self._first)

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[np.uint32]:
        """Return a window; see `cellseg.runtime.labels.LabelSource`."""
        from cellseg.runtime.slide import paste

        window = np.zeros((h, w), np.uint32)
        for index in self._grid.touching(y0, x0, h, w):
            top, left, *_ = self._grid.core(index)
            paste(window, self._region(index), (top - y0, left - x0))
        return window

    def records(self) -> Iterator[NDArray[Any]]:
        """Yield the records of all cells, region by region."""
        for packed in self._store.region_records():
            yield unpack_all(packed, MEASURED)

    def summary(self) -> dict[str, Any]:
        """Return ``cells_summary`` of run.json."""
        return summarize_cells(self.records, self._job)

    def batches(self) -> Iterator[MeasuredCells]:
        """Yield all cells in the order of their numbers; see `MeasuredSource`."""
        rows, columns = self._grid.shape
        for row in range(rows):
            indices = range(row * columns, (row + 1) * columns)
            packed = map(self._store.measured, indices)
            parts = [MeasuredCells.from_packed(*each) for each in packed]
            # A row of cores holds the first pixels of consecutive numbers.
            yield from in_batches(MeasuredCells.sorted([part for part in parts if len(part)]))

    def _region(self, index: int) -> NDArray[np.uint32]:
        return self._cache.get(index, lambda: self._numbered(index))

    def _numbered(self, index: int) -> NDArray[np.uint32]:
        labels, cells = self._store.region(index)
        first = unpack_all(cells, _CELL)["first"]
        number = np.zeros(len(first) + 1, np.uint32)
        place = np.searchsorted(self._first, first)
        # A piece too large for any window has another first pixel in each region that it reaches:
        # outside its own it is no cell, and must not take the number of one.
        is_known = np.append(self._first, -1)[place] == first
        number[1:] = np.where(is_known, place + 1, 0)
        return np.asarray(number[unpack(labels, self._grid.core(index)[2:], np.uint32)])


def tell_apart(
    job: Job,
    store: ResultStore,
    threads: int,
    commit: Callable[[], None],
    progress: Callable[[int, int], None] | None = None,
    tolerance_px: float = DEFAULT_TOLERANCE_PX,
) -> SlideCells:
    """Tell the cells of a run apart; regions that are in the store already are not done again.

    Parameters
    ----------
    job : Job
        Of a model that tells cells apart.
    store : ResultStore
        Holds all tiles with their interior.
    threads : int
        Regions at a time, `REGION_BYTES` each.
    commit : callable
        Makes what was put into the store last.
    progress : callable, optional
        Called with regions done and all regions.
    tolerance_px : float
        Of outlines.

    Returns
    -------
    SlideCells
    """
    grid = RegionGrid(job.view.hw)
    lock = Lock()  # the store is for one thread at a time
    work = _RegionWork(job, store, grid, lock, tolerance_px)
    there = store.begin_regions(work.made_with)
    left = np.setdiff1d(np.arange(len(grid)), there, assume_unique=True)
    done = len(grid) - len(left)
    for index, found in _in_threads(work, left.tolist(), threads):
        with lock:
            store.put_region(index, found)
            done += 1
            if done % _UNCOMMITTED == 0:
                commit()
        if progress is not None:
            progress(done, len(grid))
    commit()
    return SlideCells(job, store)


class _RegionWork:
    """Tells the cells of one region apart and measures them; called from several threads."""

    def __init__(
        self, job: Job, store: ResultStore, grid: RegionGrid, lock: Lock, tolerance_px: float
    ) -> None:
        rule = job.bundle.manifest.head.instances
        assert rule is not None
        self._grid = grid
        classes = _Locked(StoredPlane(job.plan, store, "classes"), lock)
        interior = _Locked(StoredPlane(job.plan, store, "interior"), lock)
        self._labeller = SeededLabeller(classes, interior, rule)
        probability = None
        if "probability" in job.planes:
            probability = _Locked(StoredPlane(job.plan, store, "probability"), lock)
        self._measurer = CellMeasurer.of(job, classes, probability, tolerance_px)
        self.made_with = {
            "planes": list(job.planes),
            "tolerance_px": tolerance_px,
            "record_bytes": MEASURED.itemsize,
        }

    def __call__(self, index: int) -> tuple[int, PackedRegion]:
        found = find_cells(self._labeller, self._grid.core(index))
        cells = np.zeros(len(found.first), _CELL)
        cells["first"], cells["is_own"] = found.first, found.is_own
        measured = self._measurer.measure_own(found)
        return index, PackedRegion(
            labels=pack(found.labels),
            cells=pack(cells),
            records=pack(measured.records),
            outlines=measured.packed_outlines(),
        )


class _Locked:
    """A label source that threads take turns in."""

    def __init__(self, source: LabelSource, lock: Lock) -> None:
        self._source, self._lock = source, lock
        self.hw, self.dtype = source.hw, source.dtype

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[Any]:
        with self._lock:
            return self._source.read(y0, x0, h, w)


def _in_threads(
    work: Callable[[int], tuple[int, PackedRegion]], indices: list[int], threads: int
) -> Iterator[tuple[int, PackedRegion]]:
    """Yield results as they come, a bounded number of them ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[tuple[int, PackedRegion]]] = deque()
        for index in indices:
            waiting.append(pool.submit(work, index))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
