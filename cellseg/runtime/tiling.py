"""How large a run's tiles are: what the user says, what fits the memory, what is fastest.

In this order: ``--tile``; the tile of the run to go on with; the fastest of those that fit, found
once by a short trial (`cellseg.runtime.engines.tune`); our own default, or the next smaller one
that fits. Small images and blended tiles, whose size changes the result, are not tried.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cellseg.errors import TilePlanError
from cellseg.runtime.engines.select import choose_engine, open_choice
from cellseg.runtime.engines.table import ENGINES
from cellseg.runtime.engines.tune import TUNED_SIDES_PX, fastest_tile_px
from cellseg.runtime.footprint import tile_cost
from cellseg.runtime.job import with_tile
from cellseg.runtime.machine import this_machine, usable_cores
from cellseg.runtime.memory import plan_memory

if TYPE_CHECKING:
    from cellseg.runtime.engines import Choice, Engine
    from cellseg.runtime.job import Job
    from cellseg.runtime.options import InferOptions

__all__ = ["TUNED_FROM_PX", "fitting_sides_px", "tile_for"]

TUNED_FROM_PX = 64_000_000
"""Runs of fewer kept pixels take less time than the trial."""

_SMALL_SIDES_PX = (256, 384)  # for a tight budget
_LEAST_KEPT = 0.25
_PART_OF_MEMORY = 0.5  # where no budget is given
_MODEST_BYTES = 2**30  # nor are tiles larger than usual tried then, if they need more than this
_MOST_PLANES = 3


def tile_for(job: Job, options: InferOptions) -> int:
    """Return the size of tile for a job that was prepared with the default one.

    Parameters
    ----------
    job : Job
        Prepared.
    options : InferOptions
        Without ``tile_px``.

    Raises
    ------
    EngineError
        If no engine fits the request.
    """
    usual_px = job.plan.y.tile_px
    is_tried = job.blend is None and job.kept_px >= TUNED_FROM_PX
    if options.max_ram_bytes is None and not is_tried:
        return usual_px
    threads = options.threads or usable_cores()
    choice = choose_engine(job.bundle, options.engine, options.precision, threads)
    sides = fitting_sides_px(job, options, choice.engine, threads)
    usual_px = max(side for side in sides if side <= max(usual_px, sides[0]))
    tried = [side for side in sides if side >= TUNED_SIDES_PX[0]]
    # An engine that is built for each size takes minutes to open.
    if not is_tried or len(tried) < 2 or ENGINES[choice.engine].needs_gpu:
        return usual_px

    def open_tile(side: int) -> Engine:
        return open_choice(job.bundle, choice, (side, side), threads)

    shares = {side: _kept_share(job, side) for side in tried}
    halo_px = job.bundle.manifest.halo_px
    return fastest_tile_px(shares, usual_px, open_tile, _key(job, choice, threads), halo_px)


def fitting_sides_px(job: Job, options: InferOptions, engine: str, threads: int) -> list[int]:
    """Return the sizes that fit the budget, ascending; the smallest, if none does.

    Parameters
    ----------
    job : Job
        Prepared, with any tile.
    options : InferOptions
        ``max_ram_bytes``; by default half of the machine's memory.
    engine : str
        Its name.
    threads : int
        Threads it computes with; it works on no more tiles at once.
    """
    card, usual_px = job.bundle.manifest, job.plan.y.tile_px
    wanted = {-(-side // card.stride) * card.stride for side in (*_SMALL_SIDES_PX, *TUNED_SIDES_PX)}
    longest = max(job.plan.rounded_hw)
    sides = sorted(
        side
        for side in {*wanted, usual_px}
        if side == usual_px or (_kept_share(job, side) >= _LEAST_KEPT and side <= longest)
    )
    fitting = [side for side in sides if _fits(job, options, engine, threads, side)]
    return fitting or sides[:1]


def _fits(job: Job, options: InferOptions, engine: str, threads: int, side: int) -> bool:
    memory_mb = this_machine().memory_mb
    budget = options.max_ram_bytes
    if budget is None:
        budget = None if memory_mb is None else int(memory_mb * 2**20 * _PART_OF_MEMORY)
        if side > job.plan.y.tile_px:
            budget = min(budget or _MODEST_BYTES, _MODEST_BYTES)
    concurrency = threads if engine == "openvino" else 1
    resized = with_tile(job, options, side)
    cost = replace(tile_cost(resized, engine, concurrency), planes=_MOST_PLANES)
    try:
        plan_memory(cost, max_ram_bytes=budget)
    except TilePlanError:
        return False
    return True


def _kept_share(job: Job, side: int) -> float:
    """Part of an inner tile that is kept; 0 if nothing is."""
    card = job.bundle.manifest
    core = (side - 2 * card.halo_px) // card.stride * card.stride
    return max(0, core) ** 2 / side**2


def _key(job: Job, choice: Choice, threads: int) -> dict[str, object]:
    machine = this_machine()
    return {
        "what": "trimmed tile",
        "bundle": job.bundle.sha256,
        "cpu": machine.cpu,
        "flags": machine.cpu_flags,
        "cores": machine.cores,
        "threads": threads,
        "choice": str(choice),
        "version": ENGINES[choice.engine].installed_version,
    }
