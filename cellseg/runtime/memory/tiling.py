"""How large a run's tiles are, and how many are computed at once: what fits, what is fastest.

The size, in this order: ``--tile``; the tile of the run to go on with; the one of those that fit
by which this slide is done first, from the speed of each in a short trial, once
(`cellseg.runtime.engines.tune`), and what it would compute here; our own default, or the one of
those that fit that should be fastest. Small images and blended tiles, whose size changes the
result, are not tried. Nor are smaller ones than the default under a budget: which of them suits a
slide is worth a few percent, and slides of one budget should hold the same and have the same tiles.

Where an engine works on a tile a core, the tiles of many cores may not fit. Half as many then go
side by side, with twice the threads each: that costs a few percent, a smaller tile far more, since
more of it is halo.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from cellseg.errors import TilePlanError
from cellseg.runtime.engines.select import choose_engine, open_choice
from cellseg.runtime.engines.table import ENGINES
from cellseg.runtime.engines.tune import TUNED_SIDES_PX, fastest_tile_px
from cellseg.runtime.jobs.job import with_tile
from cellseg.runtime.machine.facts import this_machine, usable_cores
from cellseg.runtime.memory.budget import BASE_BYTES, plan_memory
from cellseg.runtime.memory.footprint import MOST_PLANES, tile_cost
from cellseg.runtime.memory.usage import expected_usage, measured_usage

if TYPE_CHECKING:
    from cellseg.runtime.engines import Choice, Engine
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.memory.budget import EngineUsage

__all__ = ["TUNED_FROM_PX", "fitting_tiles", "most_at_once", "tile_for", "usage_for"]

TUNED_FROM_PX = 64_000_000
"""Runs of fewer kept pixels take less time than the trial."""

_SMALL_SIDES_PX = (256, 384)  # for a tight budget
_LEAST_KEPT = 0.25
_SIDE_BY_SIDE = "openvino"  # the others work on one tile with all threads
_HALF_AS_MANY = 0.95
"""Speed that is left: 0.94 to 0.97 on two cores, 512 and 1024 px, fp32 and int8."""
_PART_OF_MEMORY = 0.5  # where no budget is given
_MODEST_BYTES = 2**30  # what a run with tiles larger than usual may need then
_MODEST_PART = 0.5  # of a budget, likewise


def usage_for(job: Job, options: InferOptions) -> EngineUsage:
    """Return what the engine of a run takes: measured where a budget is to be kept, else expected.

    Raises
    ------
    EngineError
        If no engine fits the request.
    """
    threads, budget = options.threads or usable_cores(), options.max_ram_bytes
    if budget is None:
        return expected_usage(_SIDE_BY_SIDE if options.engine == "auto" else options.engine)
    choice = _chosen(job, options, threads)
    return measured_usage(job.bundle, choice, threads, max(0, budget - BASE_BYTES))


def _chosen(job: Job, options: InferOptions, threads: int) -> Choice:
    """Choose the engine, with little memory where a budget is to be kept."""
    sparing = options.max_ram_bytes is not None
    return choose_engine(job.bundle, options.engine, options.precision, threads, sparing=sparing)


def tile_for(job: Job, options: InferOptions, usage: EngineUsage) -> int:
    """Return the size of tile for a job that was prepared with the default one.

    Parameters
    ----------
    job : Job
        Prepared.
    options : InferOptions
        Without ``tile_px``.
    usage : EngineUsage
        What the engine takes under a budget; without one it is expected of the one that is chosen.

    Raises
    ------
    EngineError
        If no engine fits the request.
    """
    usual_px = default_px = job.plan.y.tile_px
    is_tried = job.blend is None and job.kept_px >= TUNED_FROM_PX
    if options.max_ram_bytes is None and not is_tried:
        return usual_px
    threads = options.threads or usable_cores()
    choice = _chosen(job, options, threads)
    if options.max_ram_bytes is None:
        usage = expected_usage(choice.engine)
    fitting = fitting_tiles(job, options, choice.engine, threads, usage)
    usual_px = max(
        (side for side in fitting if side <= max(usual_px, min(fitting))),
        key=lambda side: _kept_share(job, side) * _speed_left(fitting[side], max(fitting.values())),
    )
    if options.max_ram_bytes is None:
        tried = [side for side in fitting if side >= TUNED_SIDES_PX[0]]
    else:
        tried = [side for side in fitting if side == usual_px or side > default_px]
    # An engine that is built for each size takes minutes to open.
    if not is_tried or len(tried) < 2 or ENGINES[choice.engine].needs_gpu:
        return usual_px

    def open_tile(side: int) -> Engine:
        return open_choice(job.bundle, choice, (side, side), threads, most_at_once=fitting[side])

    key = _key(job, choice, threads) | {"at once": [fitting[side] for side in tried]}
    halo_px = job.bundle.manifest.halo_px
    shares = {side: _wanted_share(job, options, side) for side in tried}
    return fastest_tile_px(shares, usual_px, open_tile, key, halo_px)


def most_at_once(job: Job, options: InferOptions, usage: EngineUsage) -> int | None:
    """Return how many tiles of a job's plan fit at once; None: as many as the engine likes."""
    if options.tiles_at_once is not None or options.engine not in ("auto", _SIDE_BY_SIDE):
        return options.tiles_at_once
    threads = options.threads or usable_cores()
    found = _fitting_at_once(job, options, threads, job.plan.y.tile_px, usage)
    return None if found == threads else max(1, found)


def fitting_tiles(
    job: Job, options: InferOptions, engine: str, threads: int, usage: EngineUsage
) -> dict[int, int]:
    """Return the sizes that fit the budget, ascending, and how many of each are computed at once.

    Of sizes that none fits, the smallest.

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
    usage : EngineUsage
        What it takes.
    """
    card, usual_px = job.bundle.manifest, job.plan.y.tile_px
    wanted = {-(-side // card.stride) * card.stride for side in (*_SMALL_SIDES_PX, *TUNED_SIDES_PX)}
    longest = max(job.plan.rounded_hw)
    sides = sorted(
        side
        for side in {*wanted, usual_px}
        if side == usual_px or (_kept_share(job, side) >= _LEAST_KEPT and side <= longest)
    )
    most = min(options.tiles_at_once or threads, threads) if engine == _SIDE_BY_SIDE else 1
    found = {side: _fitting_at_once(job, options, most, side, usage) for side in sides}
    return {side: count for side, count in found.items() if count} or {sides[0]: 1}


def _fitting_at_once(
    job: Job, options: InferOptions, most: int, side: int, usage: EngineUsage
) -> int:
    """Halve a number of tiles until they fit; 0 if not even one does."""
    resized = with_tile(job, options, side)
    is_larger = side > job.plan.y.tile_px
    while most and not _fits(resized, options, usage, most, is_larger=is_larger):
        most = 0 if is_larger else most // 2
    return most


def _speed_left(at_once: int, most: int) -> float:
    return float(_HALF_AS_MANY ** math.log2(most / at_once))


def _fits(
    job: Job, options: InferOptions, usage: EngineUsage, at_once: int, *, is_larger: bool
) -> bool:
    """Tell whether tiles of a job's plan fit; larger ones than usual must fit easily.

    They gain a few percent, on some slides: what runs hold under one budget should not depend on
    the slide for it.
    """
    memory_mb = this_machine().memory_mb
    budget = options.max_ram_bytes
    if budget is not None:
        budget = int(budget * _MODEST_PART) if is_larger else budget
    else:
        budget = None if memory_mb is None else int(memory_mb * 2**20 * _PART_OF_MEMORY)
        if is_larger:
            budget = min(budget or _MODEST_BYTES, _MODEST_BYTES)
    stays = options.max_ram_bytes is None
    cost = tile_cost(job, usage, at_once, engine_stays=stays, outputs=options.write)
    cost = replace(cost, planes=MOST_PLANES)
    try:
        plan_memory(cost, max_ram_bytes=budget)
    except TilePlanError:
        return False
    return True


def _wanted_share(job: Job, options: InferOptions, side: int) -> float:
    """Part of what is computed that is wanted: on this slide, with tiles of a size.

    The rest is halo, overlap of the last tiles, and ground around tissue, of which large tiles
    hold more. The pixels that are wanted are those that the job's own tiles keep.
    """
    resized = with_tile(job, options, side)
    height, width = resized.plan.tile_hw
    return job.kept_px / max(1, len(resized.todo) * height * width)


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
