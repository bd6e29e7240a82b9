"""Cells of finished parts of a slide, told apart while other tiles still run.

A region can be done as soon as all tiles are there that its window reaches into. One that must be
looked at in a larger window than that is left for the end; so is whatever is not done when the last
tile is. A region gives the same cells whenever it is done.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.cells.measure import measured_view
from cellseg.runtime.cells.regions import MARGIN_PX, RegionGrid
from cellseg.runtime.cells.slide_cells import RegionWork
from cellseg.runtime.run.kept_picture import KeptPicture

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from cellseg.runtime.cells.regions import Box, Labeller
    from cellseg.runtime.cells.runs import CellRuns
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.run.stages import StageClock
    from cellseg.runtime.store.result_store import ResultStore
    from cellseg.runtime.tiles.plan import TilePlan

__all__ = ["CellFeed"]


class CellFeed:
    """Is told of tiles as they are stored, and tells cells apart behind them.

    Parameters
    ----------
    job : Job
        Of a model that tells cells apart.
    store : ResultStore
        Gets the regions; what it holds of tiles counts as stored.
    tolerance_px : float
        Of outlines.
    clock : StageClock
        Is told how long it took.
    threads : int
        Regions at a time.

    Attributes
    ----------
    picture : KeptPicture
        The slide as it is measured; holds what regions still wait for.
    """

    def __init__(
        self,
        job: Job,
        store: ResultStore,
        tolerance_px: float,
        clock: StageClock,
        threads: int = 1,
    ) -> None:
        self._plan, self._store, self._clock = job.plan, store, clock
        self._grid = RegionGrid(job.view.hw)
        self._is_there, self._awaited = (np.zeros(len(job.plan), bool) for _ in range(2))
        self._is_there[store.done(job.planes)] = True
        self._awaited[job.todo] = True
        self._awaited &= ~self._is_there
        self.picture = KeptPicture(measured_view(job), job.plan)
        self._work = RegionWork(job, store, tolerance_px, self._is_there, self.picture)
        self._work.labeller = _PatientLabeller(self._work.labeller, job.plan, self._awaited)
        done = store.begin_regions(self._work.made_with)
        self._todo = set(range(len(self._grid))).difference(done.tolist())
        self._missing = self._count_missing()
        self._pool = ThreadPoolExecutor(threads)
        self._running: list[Future[None]] = []

    def tile_stored(self, index: int) -> None:
        """Note that a tile is in the store, and begin the regions that waited for it alone.

        Raises
        ------
        BaseException
            What a region raised.
        """
        if not self._awaited[index]:
            return
        self._is_there[index], self._awaited[index] = True, False
        for region in self._regions_of(index):
            self._missing[region] -= 1
            if self._missing[region] == 0 and region in self._todo:
                self._running.append(self._pool.submit(self._run, region))
        ended = [future for future in self._running if future.done()]
        self._running = [future for future in self._running if not future.done()]
        for future in ended:
            future.result()

    def stop(self) -> None:
        """Begin no more regions, and wait for those under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, region: int) -> None:
        with self._clock.busy("cells"):
            try:
                _, found = self._work(region)
            except _TilesMissingError:
                return
            self._store.put_region(region, found)
        self._todo.discard(region)
        self._drop_measured(region)

    def _drop_measured(self, region: int) -> None:
        """Forget the pixels of tiles that no other region waits for."""
        y0, x0, y1, x1 = self._reach(*self._grid.core(region))
        for tile in self._plan.tiles_in(y0, x0, y1, x1):
            if self._todo.isdisjoint(self._regions_of(tile.index)):
                self.picture.drop(tile)

    def _count_missing(self) -> NDArray[np.int32]:
        missing = np.zeros(len(self._grid), np.int32)
        for index in np.flatnonzero(self._awaited):
            for region in self._regions_of(int(index)):
                missing[region] += 1
        return missing

    def _regions_of(self, index: int) -> list[int]:
        """Return the regions whose first window reaches into what a tile keeps."""
        tile = self._plan.tile(index)
        y0, x0, y1, x1 = self._reach(*tile.keep_yx, *tile.keep_hw)
        return list(self._grid.touching(y0, x0, y1 - y0, x1 - x0))

    def _reach(self, y0: int, x0: int, h: int, w: int) -> Box:
        """Return a box with the first margin around it, inside the image: y0, x0, y1, x1."""
        height, width = self._grid.hw
        top, left = max(0, y0 - MARGIN_PX), max(0, x0 - MARGIN_PX)
        return top, left, min(height, y0 + h + MARGIN_PX), min(width, x0 + w + MARGIN_PX)


class _TilesMissingError(Exception):
    """A window reaches into tiles that are not stored yet."""


@dataclass(frozen=True)
class _PatientLabeller:
    """Labels no window of which tiles are missing."""

    labeller: Labeller
    plan: TilePlan
    awaited: NDArray[np.bool_]

    @property
    def hw(self) -> tuple[int, int]:
        return self.labeller.hw

    def label(self, window: Box, core: Box) -> CellRuns:
        y0, x0, h, w = window
        tiles = self.plan.tiles_in(y0, x0, y0 + h, x0 + w)
        if any(self.awaited[tile.index] for tile in tiles):
            raise _TilesMissingError
        return self.labeller.label(window, core)
