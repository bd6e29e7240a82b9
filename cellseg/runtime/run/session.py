"""One session of a run: the tiles that are still to do, through the pipeline into the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.engines.trim import infer_seen
from cellseg.runtime.jobs.options import Progress
from cellseg.runtime.machine.facts import usable_cores
from cellseg.runtime.memory.footprint import region_threads
from cellseg.runtime.run.pipeline import Limits, run_tiles
from cellseg.runtime.run.stages import StageClock
from cellseg.runtime.slides.source_tiles import source_of
from cellseg.runtime.store.packing import pack
from cellseg.runtime.store.result_store import Plane
from cellseg.runtime.tiles.order import band_columns, in_bands

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.engines.trim import Output
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.jobs.options import ProgressCallback
    from cellseg.runtime.memory.budget import MemoryPlan
    from cellseg.runtime.run.cell_feed import CellFeed
    from cellseg.runtime.run.kept_picture import KeptPicture
    from cellseg.runtime.slides.source_tiles import DamagedTile, PassCounts
    from cellseg.runtime.store.result_store import ResultStore
    from cellseg.runtime.tiles.plan import Tile
    from cellseg.runtime.tiles.stitcher import Piece

__all__ = ["TileSession"]

Packed = dict[Plane, bytes]


class TileSession:
    """The steps of the pipeline for one job, and its progress.

    Parameters
    ----------
    job : Job
        What is run.
    engine : Engine
        Opened for the plan's tiles.
    store : ResultStore
        Begun; gets the tiles.
    started_s : float
        ``time.perf_counter()`` when this session began.
    feed_tolerance_px : float, optional
        Tolerance of outlines, if cells are to be told apart while tiles still run.

    Attributes
    ----------
    clock : StageClock
        Busy seconds, earlier sessions included.
    resumed : int
        Tiles that were there already.
    source_counts : PassCounts or None
        Stored tiles that `run` touched and decoded; None where the slide has none.
    region_threads : int
        Regions whose cells are told apart at once, while tiles run and when they are done.
    """

    def __init__(
        self,
        job: Job,
        engine: Engine,
        store: ResultStore,
        started_s: float,
        feed_tolerance_px: float | None = None,
    ) -> None:
        self._job, self._engine, self._store = job, engine, store
        self._started_s = started_s
        self.sessions, self._earlier_wall_s, earlier_stages_s = store.earlier_sessions()
        self.clock = StageClock(earlier_s=earlier_stages_s)
        done = store.done(job.planes)
        self.resumed = len(done)
        self._todo_px = job.kept_px
        self._left = np.setdiff1d(job.todo, done, assume_unique=True)
        self._stitcher = job.stitcher(self._left)
        self._source = source_of(job.slide)
        self._damage_kept = 0
        self.source_counts: PassCounts | None = None
        self._done = 0
        self._done_px = 0
        self.region_threads = 1
        self._tiles_started_s = time.perf_counter()
        self._feed_tolerance_px = feed_tolerance_px if "interior" in job.planes else None
        self._feed: CellFeed | None = None

    @property
    def picture(self) -> KeptPicture | None:
        """The slide as its cells are measured, if they are told apart while tiles still run."""
        return None if self._feed is None else self._feed.picture

    @property
    def wall_s(self) -> float:
        """Seconds of all sessions so far."""
        return self._earlier_wall_s + time.perf_counter() - self._started_s

    def run(self, memory: MemoryPlan, progress: ProgressCallback | None) -> None:
        """Run the tiles that are left.

        Parameters
        ----------
        memory : MemoryPlan
            Threads, queues and buffers.
        progress : callable, optional
            Called about ten times a second.
        """
        cost = memory.cost
        limits = Limits(
            workers=memory.workers,
            concurrency=cost.concurrency,
            batch=memory.batch,
            outputs=memory.outputs,
            output_shape=(*cost.tile_hw, cost.channels),
            lookahead=self._stitcher.lookahead,
        )
        self.region_threads = region_threads(self._job, memory, usable_cores())
        self._feed = self._begun_feed()
        self.clock.threads = {"read": limits.workers, "infer": limits.concurrency}
        self._tiles_started_s = time.perf_counter()
        tiles = (self._job.plan.tile(int(index)) for index in self._in_order(memory.cache_bytes))
        tick: Callable[[], None] | None = None
        if progress is not None:
            notify = progress

            def tick() -> None:
                notify(self.progress())

        if self._source is not None:
            self._source.begin_pass(self._job.view.level)
        try:
            run_tiles(tiles, self, limits, self.clock, tick)
        finally:
            if self._feed is not None:
                self._feed.stop()
        if self._source is not None:
            self.source_counts = self._source.pass_counts()

    def progress(self) -> Progress:
        """Return the state of this moment."""
        job, elapsed_s = self._job, time.perf_counter() - self._tiles_started_s
        pace = self._done_px / elapsed_s if self._done and elapsed_s > 0 else None
        left_px = self._todo_px * (len(self._left) - self._done) / max(1, len(job.todo))
        mm2_per_px = None if job.view.mpp is None else job.view.mpp[0] * job.view.mpp[1] * 1e-6
        bottleneck = self.clock.bottleneck(elapsed_s)
        return Progress(
            phase="tiles",
            tiles_done=self.resumed + self._done,
            tiles_total=len(job.todo),
            tiles_resumed=self.resumed,
            elapsed_s=elapsed_s,
            throughput_mpx_s=None if pace is None else pace / 1e6,
            mm2_per_s=None if pace is None or mm2_per_px is None else pace * mm2_per_px,
            eta_s=None if pace is None else left_px / pace,
            bottleneck=None if bottleneck is None else bottleneck[0],
            bottleneck_share=None if bottleneck is None else bottleneck[1],
        )

    def read(self, tile: Tile) -> NDArray[np.uint8]:
        """Read a tile; see `Steps`."""
        pixels = self._job.view.read(*tile.read_yx, *self._job.plan.tile_hw)
        if self.picture is not None:
            self.picture.keep(tile)  # now, while what was decoded is at hand
        return pixels

    def infer(self, tile: Tile, rgb: NDArray[np.uint8], out: NDArray[np.float32]) -> Output:
        """Run the network; see `Steps`."""
        return infer_seen(self._engine, rgb, out, self._job.unseen(tile))

    def stitch(self, tile: Tile, output: Output) -> list[tuple[Tile, Packed]]:
        """Join, decide and pack what has become final; see `Steps`."""
        pieces = self._stitcher.add(tile, output)
        return [(piece.tile, self._packed(piece)) for piece in pieces]

    def write(self, tile: Tile, result: list[tuple[Tile, Packed]]) -> None:
        """Put what is final into the store; see `Steps`."""
        self._keep_damage()  # first: no tile is kept without what was damaged in it
        for final, packed in result:
            self._store.put(final.index, packed)
            if self._feed is not None:
                self._feed.tile_stored(final.index)
            self._done += 1
            self._done_px += final.keep_hw[0] * final.keep_hw[1]

    def damaged(self) -> list[DamagedTile]:
        """Return what was damaged and taken for background so far, in all sessions."""
        self._keep_damage()
        return self._store.damaged()

    def commit(self) -> None:
        """Make the tiles last; see `Steps`."""
        self._store.commit(self.wall_s - self._earlier_wall_s, self.clock.session_seconds())

    def _begun_feed(self) -> CellFeed | None:
        if self._feed_tolerance_px is None:
            return None
        from cellseg.runtime.run.cell_feed import CellFeed

        # With fewer threads than cores, cells fall behind a network that keeps all cores busy.
        threads = self.region_threads
        return CellFeed(self._job, self._store, self._feed_tolerance_px, self.clock, threads)

    def _in_order(self, cache_bytes: int) -> NDArray[np.int64]:
        """Return the tiles to run in the order that decodes each stored tile once."""
        tiles, view, plan = self._stitcher.tiles, self._job.view, self._job.plan
        if self._source is None or self._stitcher.lookahead is not None:
            return tiles
        grid, tile_bytes = self._source.grids[view.level], self._source.tile_bytes(view.level)
        band = band_columns(plan, view.scale, grid, tile_bytes, cache_bytes)
        return in_bands(tiles, len(plan.x), band)

    def _keep_damage(self) -> None:
        if self._source is None or self._source.damaged_count == self._damage_kept:
            return
        damaged = self._source.damaged()
        self._store.put_damaged(damaged)
        self._damage_kept = len(damaged)

    def _packed(self, piece: Piece) -> Packed:
        classes = self._job.rule.classes(piece.channels, piece.yx, piece.tile.keep_hw)
        self._job.blank_outside(classes, *piece.tile.keep_yx)
        planes: Packed = {"classes": pack(classes)}
        if "probability" in self._job.planes:
            planes["probability"] = pack(self._probability(piece))
        if "interior" in self._job.planes:
            planes["interior"] = pack(self._interior(piece))
        return planes

    def _probability(self, piece: Piece) -> NDArray[np.uint8]:
        grey = self._job.rule.foreground(piece.channels, piece.yx, piece.tile.keep_hw)
        self._job.blank_outside(grey, *piece.tile.keep_yx)
        return grey

    def _interior(self, piece: Piece) -> NDArray[np.uint8]:
        from cellseg.runtime.cells.parting import interior_steps

        rule = self._job.cell_rule
        assert rule is not None  # or the job would not keep it
        return interior_steps(piece.channels, rule, piece.yx, piece.tile.keep_hw)
