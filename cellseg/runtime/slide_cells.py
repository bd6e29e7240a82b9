"""All cells of a run: told apart region by region into the store, then read as one label map."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.labels import StoredPlane
from cellseg.runtime.regions import RegionGrid, find_cells
from cellseg.runtime.store import pack, unpack
from cellseg.runtime.tilecache import TileCache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from cellseg.runtime.job import Job
    from cellseg.runtime.labels import LabelSource
    from cellseg.runtime.regions import RegionCells
    from cellseg.runtime.store import ResultStore

__all__ = ["REGION_BYTES", "SlideCells", "tell_apart"]

REGION_BYTES = 80 << 20
"""What a thread holds while it tells the cells of a region apart: about 45 bytes a pixel."""

_CACHE_BYTES = 48 << 20
_UNCOMMITTED = 16
# What the store keeps of each cell that reaches into a region.
_CELL = np.dtype([("first", "<i8"), ("is_own", "?"), ("class", "u1")])


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
        Cells of each class, by its name; a cell's class is that of its first pixel.
    """

    dtype = np.dtype(np.uint32)

    def __init__(self, job: Job, store: ResultStore) -> None:
        self.hw = job.view.hw
        self._store, self._grid = store, RegionGrid(job.view.hw)
        self._cache = TileCache(_CACHE_BYTES)
        own = [cells[cells["is_own"]] for cells in map(_cells, store.region_cells())]
        merged = np.concatenate([*own, np.zeros(0, _CELL)])
        # Eight bytes a cell: the one thing here that grows with what the slide holds.
        self._first = np.sort(merged["first"])
        by_class = np.bincount(merged["class"], minlength=len(job.class_names)).tolist()
        self.counts: Mapping[str, int] = dict(zip(job.class_names[1:], by_class[1:], strict=True))

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

    def _region(self, index: int) -> NDArray[np.uint32]:
        return self._cache.get(index, lambda: self._numbered(index))

    def _numbered(self, index: int) -> NDArray[np.uint32]:
        labels, cells = self._store.region(index)
        first = _cells(cells)["first"]
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

    Returns
    -------
    SlideCells
    """
    rule = job.bundle.manifest.head.instances
    assert rule is not None
    grid = RegionGrid(job.view.hw)
    lock = Lock()  # the store is for one thread at a time
    classes = _Locked(StoredPlane(job.plan, store, "classes"), lock)
    interior = _Locked(StoredPlane(job.plan, store, "interior"), lock)

    def work(index: int) -> tuple[int, bytes, bytes]:
        core = grid.core(index)
        found = find_cells(classes, interior, rule, core)
        return index, pack(found.labels), pack(_table(found, classes.read(*core), core, grid.hw))

    left = np.setdiff1d(np.arange(len(grid)), store.regions_done(), assume_unique=True)
    done = len(grid) - len(left)
    for index, labels, cells in _in_threads(work, left.tolist(), threads):
        with lock:
            store.put_region(index, labels, cells)
            done += 1
            if done % _UNCOMMITTED == 0:
                commit()
        if progress is not None:
            progress(done, len(grid))
    commit()
    return SlideCells(job, store)


class _Locked:
    """A label source that threads take turns in."""

    def __init__(self, source: LabelSource, lock: Lock) -> None:
        self._source, self._lock = source, lock
        self.hw, self.dtype = source.hw, source.dtype

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[Any]:
        with self._lock:
            return self._source.read(y0, x0, h, w)


def _in_threads(
    work: Callable[[int], tuple[int, bytes, bytes]], indices: list[int], threads: int
) -> Any:
    """Yield results as they come, a bounded number of them ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[tuple[int, bytes, bytes]]] = deque()
        for index in indices:
            waiting.append(pool.submit(work, index))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _table(
    found: RegionCells,
    classes: NDArray[np.uint8],
    core: tuple[int, int, int, int],
    hw: tuple[int, int],
) -> NDArray[Any]:
    """Make what the store keeps of a region's cells; the class only of its own."""
    table = np.zeros(len(found.first), _CELL)
    table["first"], table["is_own"] = found.first, found.is_own
    y, x = np.divmod(found.first[found.is_own], hw[1])
    table["class"][found.is_own] = classes[y - core[0], x - core[1]]
    return table


def _cells(packed: bytes) -> NDArray[Any]:
    import imagecodecs

    return np.frombuffer(imagecodecs.zstd_decode(packed), _CELL)
