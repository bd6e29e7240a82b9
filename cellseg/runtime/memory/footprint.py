"""What a run will hold, said beforehand: from a job to a plan of its memory.

Little grows with a slide, but on a slide of 10^10 pixels even a few bytes a tile are counted: all
of it is here, so that `cellseg.runtime.memory.budget` can divide what remains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.errors import TilePlanError
from cellseg.runtime.cells.regions import CORE_PX, MARGIN_PX, WINDOW_BYTES_PER_PX
from cellseg.runtime.cells.runs import LARGEST_PX
from cellseg.runtime.cells.slide_cells import CACHE_BYTES as LABELS_CACHE_BYTES
from cellseg.runtime.jobs.outputs import DEFAULT_OUTPUTS, OUTPUTS, OVERVIEW_LONGEST_PX
from cellseg.runtime.memory.budget import (
    BASE_BYTES,
    CACHE_BYTES,
    MIN_CACHE_BYTES,
    TileCost,
    plan_memory,
)
from cellseg.runtime.pictures.overview import halvings_to_fit
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.slides.source_tiles import source_of
from cellseg.runtime.store.labels import CACHE_BYTES as MAP_CACHE_BYTES
from cellseg.runtime.tiles.order import cache_for
from cellseg.runtime.view.working import SOURCE_PX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.memory.budget import EngineUsage, MemoryPlan

__all__ = [
    "MOST_PLANES",
    "check_additions",
    "files_bytes",
    "held_bytes",
    "left_bytes",
    "memory_for",
    "region_threads",
    "tile_cost",
]

MOST_PLANES = 3
"""Maps that may be kept of each tile: which they are is settled after its size."""

_TILE_TABLE_BYTES = 64  # indices to run, left, done; hit or not; in the store's index
_SOURCE_TABLE_BYTES = 40  # offset and size of a stored tile, touched or not; and of tifffile
_FILE_TABLE_BYTES = 3 * 160  # offset and size of a written tile, as numbers and in tifffile's lists
_FILE_TILE_PX = 512 * 512
_PX_A_CELL = 400  # 8000 cells a mm² at 0.5 microns a pixel: dense
_CELL_BYTES = 8
_ROW_BYTES = CORE_PX * 300 // _PX_A_CELL  # a row of regions' cells are held while they are sorted
_OVERVIEW_BYTES = 4  # class map; encoded strips, joined
_BLOCK_BYTES = 3 * 2048 * 2048 * 3  # a block of the slide is read, mapped, reduced
_DECODING = 3.0  # a tile's bytes in the file, its samples, and the RGB that is made of them
_DECODING_JPEG2000 = 6.0  # whose decoder works on 32 bits a sample
_WRITERS_BYTES = 96 << 20  # libraries of the default outputs; tiles, strips and shards on their way


def held_bytes(job: Job) -> int:
    """Return what a job holds from its first tile to its last file, besides the engine."""
    height, width = job.view.hw
    source = source_of(job.slide)
    stored = 0 if source is None else sum(grid.rows * grid.cols for grid in source.grids)
    written = -(-height * width // _FILE_TILE_PX) * 4 // 3  # with all levels
    cells = job.kept_px // _PX_A_CELL * _CELL_BYTES if job.tells_cells else 0
    return (
        job.mask.nbytes
        + (0 if job.roi is None else job.roi.nbytes)
        + len(job.plan) * _TILE_TABLE_BYTES
        + stored * _SOURCE_TABLE_BYTES
        + written * _FILE_TABLE_BYTES
        + cells
        + (job.slide.held_bytes if isinstance(job.slide, ArraySlide) else 0)
    )


def _decoding_bytes(job: Job) -> int:
    """Return what a thread holds while it decodes a stored tile: a strip may be a whole image."""
    source = source_of(job.slide)
    if source is None:
        return 0
    largest = max(source.tile_bytes(level) for level in range(job.view.level, len(source.grids)))
    is_jpeg2000 = "2000" in job.slide.properties.get("compression", "")
    return round(largest * (_DECODING_JPEG2000 if is_jpeg2000 else _DECODING))


def files_bytes(job: Job) -> int:
    """Return what telling cells apart and the writers of files hold at most, at a time."""
    area_px = job.view.hw[0] * job.view.hw[1]
    times = halvings_to_fit(job.view.hw, OVERVIEW_LONGEST_PX)
    writers = (
        MIN_CACHE_BYTES
        + _decoding_bytes(job)
        + min(MAP_CACHE_BYTES, area_px)
        + (area_px >> 2 * times) * _OVERVIEW_BYTES
        + _BLOCK_BYTES * job.slide.dtype.itemsize
        + _WRITERS_BYTES
    )
    if not job.tells_cells:
        return writers
    writers += min(LABELS_CACHE_BYTES, 4 * area_px) + job.view.hw[1] * _ROW_BYTES
    return max(writers, _parting_bytes(job) + _region_bytes(job))


def left_bytes(outputs: Iterable[str]) -> int:
    """Return what outputs leave in memory, besides those that are made where none is named."""
    return sum(OUTPUTS[name].left_bytes for name in {*outputs} - {*DEFAULT_OUTPUTS})


def check_additions(job: Job, outputs: Iterable[str], max_ram_bytes: int | None) -> None:
    """Refuse outputs that do not fit a budget, where a finished run alone is read for them.

    Raises
    ------
    TilePlanError
        Naming what they need.
    """
    needed_bytes = BASE_BYTES + held_bytes(job) + files_bytes(job) + left_bytes(outputs)
    if max_ram_bytes is not None and needed_bytes > max_ram_bytes:
        needed = -(-needed_bytes // 2**20)
        raise TilePlanError(
            f"What a finished run lacks needs about {needed} MiB to be made. "
            f"Received: max_ram={max_ram_bytes // 2**20} MiB.",
            hint=f"Use --max-ram {needed}M or more.",
        )


def region_threads(job: Job, memory: MemoryPlan, cores: int) -> int:
    """Return of how many regions cells may be told apart at once: a core each, if they have room.

    Under a budget that is when the tiles are done.
    """
    if memory.budget_bytes is None:
        return cores
    room = memory.budget_bytes - memory.cost.lasting_bytes - _parting_bytes(job)
    return min(cores, max(1, room // _region_bytes(job)))


def _parting_bytes(job: Job) -> int:
    """Return what telling cells apart holds beside its regions: maps, and a window that grew."""
    area_px = job.view.hw[0] * job.view.hw[1]
    maps = MOST_PLANES * min(MAP_CACHE_BYTES, area_px)
    return MIN_CACHE_BYTES + maps + _window_px(job, LARGEST_PX) * WINDOW_BYTES_PER_PX


def _region_bytes(job: Job) -> int:
    """Return what a thread holds that tells the cells of a region apart, then measures them."""
    area_px = _window_px(job, MARGIN_PX)
    source_px = min(area_px * job.view.scale**2, SOURCE_PX)
    read = round(source_px * 3 * (job.slide.dtype.itemsize + 1))  # as stored, and as 8 bits
    read += _decoding_bytes(job)
    return max(area_px * WINDOW_BYTES_PER_PX, area_px * WINDOW_BYTES_PER_PX // 2 + read)


def _window_px(job: Job, margin_px: int) -> int:
    height, width = (min(side, CORE_PX + 2 * margin_px) for side in job.view.hw)
    return height * width


def tile_cost(
    job: Job,
    usage: EngineUsage,
    concurrency: int,
    taken_bytes: int = 0,
    *,
    engine_stays: bool = False,
    outputs: Iterable[str] = (),
) -> TileCost:
    """Return what the tiles of a job's plan cost with an engine.

    Parameters
    ----------
    job : Job
        What is run.
    usage : EngineUsage
        What the engine is expected to take.
    concurrency : int
        Tiles that it works on at once.
    taken_bytes : int
        What it took when it was tried.
    engine_stays : bool
        Whether it holds its memory while files are written.
    outputs : iterable of str
        Names of what is made.
    """
    return TileCost(
        tile_hw=job.plan.tile_hw,
        source_per_wl=job.view.scale,
        source_bytes=job.slide.dtype.itemsize,
        channels=len(job.bundle.manifest.channels),
        concurrency=concurrency,
        usage=usage,
        engine_taken_bytes=taken_bytes,
        engine_stays=engine_stays,
        planes=len(job.planes),
        reserve_bytes=job.band_bytes,
        decoding_bytes=_decoding_bytes(job),
        held_bytes=held_bytes(job),
        files_bytes=files_bytes(job) + left_bytes(outputs),
        cache_bytes=_cache_bytes(job),
    )


def _cache_bytes(job: Job) -> int:
    """Return how many bytes of stored tiles are worth keeping; blending needs rows, not bands."""
    source, view = source_of(job.slide), job.view
    if source is None:
        return MIN_CACHE_BYTES
    if job.blend is not None:
        return CACHE_BYTES
    tile_bytes = source.tile_bytes(view.level)
    return min(CACHE_BYTES, cache_for(job.plan, view.scale, source.grids[view.level], tile_bytes))


def memory_for(
    job: Job,
    engine: Engine,
    options: InferOptions,
    cores: int,
    usage: EngineUsage,
    taken_bytes: int = 0,
) -> MemoryPlan:
    """Plan the memory of a run; see `cellseg.runtime.memory.budget`."""
    stays = options.max_ram_bytes is None or engine.device != "cpu"
    cost = tile_cost(
        job, usage, engine.concurrency, taken_bytes, engine_stays=stays, outputs=options.write
    )
    return plan_memory(
        cost,
        max_ram_bytes=options.max_ram_bytes,
        workers=options.workers,
        batch=options.batch,
        cores=cores,
    )
