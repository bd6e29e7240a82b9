"""The loop of every measurement: warm up until times settle, then sample for long enough."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from cellseg.bench.meters.energy import find_meters, joules_of
from cellseg.bench.meters.nvml import find_library
from cellseg.bench.meters.watch import MachineWatch
from cellseg.runtime.memory.budget import peak_rss_mb

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Amount", "Observation", "Warmup", "sample", "sample_beside", "warm_up"]

_WARM_CALLS = 3
_WARM_LEAST_S = 0.5
_WARM_MOST_S = 10.0
_SETTLED = 0.05


@dataclass(frozen=True)
class Amount:
    """How long a round lasts: both must be reached."""

    seconds: float
    samples: int

    def is_reached(self, started_s: float, samples: int) -> bool:
        """Tell whether a round that began then has enough."""
        return samples >= self.samples and time.perf_counter() - started_s >= self.seconds


@dataclass(frozen=True)
class Warmup:
    """What was run and thrown away."""

    calls: int
    seconds: float


class Observation:
    """Time, energy and state of the machine from its making to `facts`."""

    def __init__(self) -> None:
        self._watch = MachineWatch()
        self._meters = find_meters()
        for meter in self._meters:
            meter.start()
        self.started_s = time.perf_counter()

    def facts(self) -> dict[str, Any]:
        """Return fields of a `Round`: what was seen until now."""
        seconds = time.perf_counter() - self.started_s
        library = find_library()
        return {
            "seconds": seconds,
            "joule": joules_of(self._meters),
            "state": self._watch.state(),
            "peak_rss_mb": peak_rss_mb(),
            "device_memory_mb": None if library is None else library.own_memory_mb(),
        }


def warm_up(query: Callable[[int], object]) -> Warmup:
    """Run until the last three calls are no faster than the three before, half a second at least.

    Parameters
    ----------
    query : callable
        Takes the number of the call.
    """
    started_s = time.perf_counter()
    times: list[float] = []
    while not _is_warm(times, time.perf_counter() - started_s):
        before_s = time.perf_counter()
        query(len(times))
        times.append(time.perf_counter() - before_s)
    return Warmup(len(times), time.perf_counter() - started_s)


def _is_warm(times: list[float], seconds: float) -> bool:
    if len(times) < _WARM_CALLS:
        return False
    if seconds >= _WARM_MOST_S:
        return True
    if seconds < _WARM_LEAST_S or len(times) < 2 * _WARM_CALLS:
        return False
    last, before = times[-_WARM_CALLS:], times[-2 * _WARM_CALLS : -_WARM_CALLS]
    return median(last) >= (1 - _SETTLED) * median(before)


def sample(query: Callable[[int], object], amount: Amount) -> list[float]:
    """Run queries one after the other; milliseconds of each."""
    started_s = time.perf_counter()
    times: list[float] = []
    while not amount.is_reached(started_s, len(times)):
        before_s = time.perf_counter()
        query(len(times))
        times.append(1e3 * (time.perf_counter() - before_s))
    return times


def sample_beside(query: Callable[[int], object], amount: Amount, callers: int) -> list[float]:
    """Keep several callers busy with queries; milliseconds of each, in the order of their ends."""
    started_s = time.perf_counter()
    times: list[float] = []

    def work(caller: int) -> None:
        number = caller
        while not amount.is_reached(started_s, len(times)):
            before_s = time.perf_counter()
            query(number)
            times.append(1e3 * (time.perf_counter() - before_s))
            number += callers

    with ThreadPoolExecutor(callers) as pool:
        for _ in pool.map(work, range(callers)):
            pass
    return times
