"""Memory of a run: a budget turned into threads, queues, buffers and caches.

A run's memory is a sum over things whose number or size is known beforehand::

    base        interpreter, libraries, compiled kernels                        BASE_BYTES
    + held      masks, regions, tables of tiles: all that grows with the slide
    + the larger of two, of which the second begins when the first is over:

      tiles     engine, and concurrency x tile_px x what it takes a pixel       activations
                workers      x source_px x 3 x depth x 2                        decoded windows
                workers      x a stored tile x DECODING                         tiles being decoded
                (workers + batch + concurrency) x tile_px x 3                   uint8 tiles
                outputs      x tile_px x channels x 4                           float32 channels
                QUEUED       x tile_px x planes                                 results on their way
                reserve                                                         sums of blending
                cache                                                           decoded TIFF tiles
      files     pictures, spools and caches of the writers

What an engine takes a pixel is measured under a budget, once for each network
(`cellseg.runtime.memory.usage`), and expected otherwise. Under a budget it is closed before files
are written, and gives its memory back (seen of OpenVINO, ONNX Runtime and LiteRT); without one it
may be kept for the next slide, and one that computes on a GPU may keep the driver's: such is
counted beside the files, too.

A budget is spent in this order: everything at its least, then workers, then waiting tiles, then
the cache. What does not fit at its least is refused before a tile is run. So that freed memory goes
back to the system at once, and the sum is what the system sees, `cellseg.runtime.machine.malloc`
fixes what glibc would otherwise adapt.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cellseg.errors import TilePlanError

__all__ = [
    "MemoryPlan",
    "TileCost",
    "peak_rss_mb",
    "plan_memory",
    "reset_peak_rss",
    "resident_bytes",
]

BASE_BYTES = 320 * 2**20
CACHE_BYTES = 256 * 2**20
MIN_CACHE_BYTES = 16 * 2**20
MAX_WORKERS = 8
QUEUED = 12  # results being stitched, waiting to be written, and being written


@dataclass(frozen=True)
class EngineUsage:
    """What an engine takes of memory."""

    fixed_bytes: int
    """However large its tiles are: weights, compiled code."""

    bytes_per_px: float
    """For each pixel that it works on at a time."""

    def bytes_at(self, px: int) -> int:
        """Return what it takes to work on so many pixels at a time."""
        return self.fixed_bytes + round(px * self.bytes_per_px)


@dataclass(frozen=True)
class TileCost:
    """What one tile costs; see the module's formula."""

    tile_hw: tuple[int, int]
    """Height and width that a tile reads, working-level pixels."""

    source_per_wl: float
    """Pixels of the level that is read, per working-level pixel, along one axis."""

    source_bytes: int
    """Bytes of one sample of the slide: 1 or 2."""

    channels: int
    """Channels of the network's output."""

    concurrency: int
    """Tiles that the engine works on at once."""

    usage: EngineUsage
    """What the engine is expected to take."""

    engine_taken_bytes: int = 0
    """What it took when it was tried; 0: it was not."""

    engine_stays: bool = False
    """Whether it holds its memory while files are written."""

    planes: int = 1
    """Maps that are kept of each tile, a byte a pixel."""

    reserve_bytes: int = 0
    """What else tiles hold on their way."""

    decoding_bytes: int = 0
    """What one reader holds while it decodes a stored tile."""

    held_bytes: int = 0
    """What is held from the first tile to the last file."""

    files_bytes: int = 0
    """What the writers of files hold, when the tiles are done."""

    cache_bytes: int = CACHE_BYTES
    """Decoded TIFF tiles that are worth keeping."""

    @property
    def engine_bytes(self) -> int:
        """What the engine takes for all tiles that it works on at once."""
        return self.engine_taken_bytes or self.usage.bytes_at(self.concurrency * self.tile_px)

    @property
    def lasting_bytes(self) -> int:
        """What is held from the first tile to the last file, all told."""
        return BASE_BYTES + self.held_bytes + (self.engine_bytes if self.engine_stays else 0)

    @property
    def tile_px(self) -> int:
        """Pixels of a tile."""
        return self.tile_hw[0] * self.tile_hw[1]

    @property
    def output_bytes(self) -> int:
        """One tile's probabilities."""
        return self.tile_px * self.channels * 4

    @property
    def read_bytes(self) -> int:
        """What one reader holds while it makes a tile."""
        windows = round(self.tile_px * self.source_per_wl**2) * 3 * self.source_bytes * 2
        return windows + self.decoding_bytes


@dataclass(frozen=True)
class MemoryPlan:
    """How many of each thing a run may hold."""

    workers: int
    """Threads that read and decode."""

    batch: int
    """Tiles that wait ready for the engine."""

    outputs: int
    """Buffers for probabilities: the engine's, and one that waits to be stitched."""

    cache_bytes: int
    """Decoded TIFF tiles kept for neighbours."""

    cost: TileCost
    """What was planned with."""

    budget_bytes: int | None = None
    """What the process may hold; None: nobody said."""

    @property
    def total_bytes(self) -> int:
        """Estimate for the whole process."""
        return self.cost.lasting_bytes + max(self.transient_bytes, self.cost.files_bytes)

    @property
    def transient_bytes(self) -> int:
        """What tiles on their way hold; free again once all are done."""
        cost = self.cost
        tiles = self.workers + self.batch + cost.concurrency
        return (
            (0 if cost.engine_stays else cost.engine_bytes)
            + self.workers * cost.read_bytes
            + tiles * cost.tile_px * 3
            + self.outputs * cost.output_bytes
            + QUEUED * cost.tile_px * cost.planes
            + cost.reserve_bytes
            + self.cache_bytes
        )


def plan_memory(
    cost: TileCost,
    *,
    max_ram_bytes: int | None = None,
    workers: int | None = None,
    batch: int | None = None,
    cores: int = 1,
) -> MemoryPlan:
    """Choose threads, queues and caches for a budget.

    Parameters
    ----------
    cost : TileCost
        What one tile costs.
    max_ram_bytes : int, optional
        Budget for the process; None: the defaults below.
    workers, batch : int, optional
        The user's choice; by default a reader a core and a tile ready for each engine thread and
        one more. Both are lowered where the budget asks for it.
    cores : int
        Cores of this machine.

    Returns
    -------
    MemoryPlan
        Its ``total_bytes`` is at most the budget.

    Raises
    ------
    TilePlanError
        If one reader, one waiting tile and the smallest cache do not fit.
    """
    wanted_workers = workers or min(MAX_WORKERS, max(2, cores))
    wanted_batch = batch or cost.concurrency + 1
    least = MemoryPlan(1, 1, cost.concurrency + 1, MIN_CACHE_BYTES, cost, max_ram_bytes)
    if max_ram_bytes is None:
        cache_bytes = max(MIN_CACHE_BYTES, cost.cache_bytes)
        return replace(least, workers=wanted_workers, batch=wanted_batch, cache_bytes=cache_bytes)
    if least.total_bytes > max_ram_bytes:
        raise _too_small(least, max_ram_bytes)
    tile_bytes = cost.tile_px * 3
    workers = _affordable(least, wanted_workers, cost.read_bytes + tile_bytes, max_ram_bytes)
    plan = replace(least, workers=workers)
    plan = replace(plan, batch=_affordable(plan, wanted_batch, tile_bytes, max_ram_bytes))
    spare = _room(plan, max_ram_bytes)
    wanted_cache = max(plan.cache_bytes, cost.cache_bytes)
    return replace(plan, cache_bytes=min(wanted_cache, plan.cache_bytes + spare))


def resident_bytes() -> int | None:
    """Return what of the process lies in memory now; None where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return None


def reset_peak_rss() -> None:
    """Forget the process' peak memory, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_rss_mb() -> float | None:
    """Return the process' largest resident set since `reset_peak_rss`, MiB; None if unknown."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    return _peak_of_process()


def _peak_of_process() -> float | None:
    if sys.platform == "win32":
        import ctypes

        # PROCESS_MEMORY_COUNTERS: two 32-bit counts, then sizes; the first size is the peak.
        fields = [("cb", ctypes.c_uint32), ("faults", ctypes.c_uint32)]
        fields += [(f"size_{i}", ctypes.c_size_t) for i in range(8)]
        counters = type("Counters", (ctypes.Structure,), {"_fields_": fields})()
        counters.cb = size = ctypes.sizeof(counters)
        process = ctypes.windll.kernel32.GetCurrentProcess()
        known = ctypes.windll.psapi.GetProcessMemoryInfo(process, ctypes.byref(counters), size)
        return round(counters.size_0 / 2**20, 1) if known else None
    else:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _affordable(plan: MemoryPlan, wanted: int, each_bytes: int, max_ram_bytes: int) -> int:
    """Return how many of a thing, of which the plan holds one, the budget allows."""
    return min(wanted, 1 + _room(plan, max_ram_bytes) // each_bytes)


def _room(plan: MemoryPlan, max_ram_bytes: int) -> int:
    """Return what more tiles may hold on their way; files come later and do not matter here."""
    return max_ram_bytes - plan.cost.lasting_bytes - plan.transient_bytes


def _too_small(least: MemoryPlan, max_ram_bytes: int) -> TilePlanError:
    needed = -(-least.total_bytes // 2**20)
    enough = -(-needed * 11 // 100) * 10  # the engine, tried next, may take more than expected
    what, or_else = "The files of this run", ""
    if least.transient_bytes > least.cost.files_bytes:
        what = f"Tiles of {'x'.join(map(str, least.cost.tile_hw))} px"
        or_else = ", or smaller tiles (--tile)"
    return TilePlanError(
        f"{what} need about {needed} MiB. Received: max_ram={max_ram_bytes // 2**20} MiB.",
        hint=f"Use --max-ram {enough}M or more{or_else}.",
    )
