"""A small image: the network's channels of all of it, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.engines.trim import infer_seen
from cellseg.runtime.memory.budget import TileCost, plan_memory
from cellseg.runtime.memory.usage import expected_usage
from cellseg.runtime.run.pipeline import Limits, run_tiles
from cellseg.runtime.run.stages import StageClock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.engines.trim import Output
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.tiles.plan import Tile
    from cellseg.runtime.tiles.stitcher import Stitcher

__all__ = ["run_canvas"]


def run_canvas(job: Job, engine: Engine, options: InferOptions) -> NDArray[np.float32]:
    """Run all tiles of a small image and put the channels together.

    Parameters
    ----------
    job, engine : Job, Engine
        What is run.
    options : InferOptions
        ``workers`` and ``batch`` count.

    Returns
    -------
    float32, shape (H, W, C)
        The network's output at the working level.
    """
    height, width = job.plan.tile_hw
    if len(job.plan) == 1:  # no threads: a camera frame must not wait for them
        h, w = job.plan.extent_hw
        whole = engine.infer(job.view.read(0, 0, height, width))
        return np.ascontiguousarray(whole[:h, :w])
    channels = len(job.bundle.manifest.channels)
    usage = expected_usage(engine.name)
    cost = TileCost((height, width), 1.0, 1, channels, engine.concurrency, usage)
    memory = plan_memory(cost, workers=options.workers, batch=options.batch)
    every = np.arange(len(job.plan), dtype=np.int64)
    steps = _CanvasSteps(job, engine, job.stitcher(every))
    limits = Limits(
        memory.workers,
        engine.concurrency,
        memory.batch,
        memory.outputs,
        (height, width, channels),
        steps.stitcher.lookahead,
    )
    run_tiles(job.plan, steps, limits, StageClock())
    return steps.canvas


class _CanvasSteps:
    """Tiles into an array in memory."""

    def __init__(self, job: Job, engine: Engine, stitcher: Stitcher) -> None:
        self._job, self._engine, self.stitcher = job, engine, stitcher
        channels = len(job.bundle.manifest.channels)
        self.canvas = np.empty((*job.plan.extent_hw, channels), np.float32)

    def read(self, tile: Tile) -> NDArray[np.uint8]:
        return self._job.view.read(*tile.read_yx, *self._job.plan.tile_hw)

    def infer(self, tile: Tile, rgb: NDArray[np.uint8], out: NDArray[np.float32]) -> Output:
        return infer_seen(self._engine, rgb, out, self._job.unseen(tile))

    def stitch(self, tile: Tile, output: Output) -> None:
        for piece in self.stitcher.add(tile, output):
            self.canvas[piece.tile.outer] = piece.kept

    def write(self, tile: Tile, result: None) -> None:
        """Do nothing: the canvas has it."""

    def commit(self) -> None:
        """Do nothing."""
