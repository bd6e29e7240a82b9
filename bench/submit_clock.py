"""What handing a frame over costs the thread that does it, and what it waits for.

The time on the wall holds what other processes take of the processor. Linux counts per thread how
long it was ready to run and did not (``/proc/thread-self/schedstat``, second field): without that
time, what remains is the thread's own work and its waiting for locks, the interpreter's included.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SubmitClock"]

_PATH = Path("/proc/thread-self/schedstat")


class SubmitClock:
    """Times blocks of one thread. A context manager, used again for each block."""

    def __init__(self) -> None:
        self._file = os.open(_PATH, os.O_RDONLY) if _PATH.exists() else None
        self._wall_ns: list[int] = []
        self._cpu_ns: list[int] = []
        self._own_ns: list[int] = []
        self._begun = (0, 0, 0)

    def __enter__(self) -> None:
        delayed_ns = self._delayed_ns()
        self._begun = delayed_ns, time.thread_time_ns(), time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        wall_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        delayed_ns = self._delayed_ns()
        before = self._begun
        self._wall_ns.append(wall_ns - before[2])
        self._cpu_ns.append(cpu_ns - before[1])
        self._own_ns.append(max(0, wall_ns - before[2] - (delayed_ns - before[0])))

    def report(self) -> dict[str, Any]:
        """Return percentiles in milliseconds.

        ``wall``: as the camera saw it; ``own``: without the time in which other threads had the
        processor; ``cpu``: the work alone. The difference of the last two is waiting for locks.
        """
        columns = {"wall": self._wall_ns, "own": self._own_ns, "cpu": self._cpu_ns}
        found: dict[str, Any] = {"calls": len(self._wall_ns)}
        for name, values in columns.items():
            if self._file is None and name == "own":
                continue
            at = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "p100": 100.0}
            found[f"{name}_ms"] = {
                key: round(float(np.percentile(values, q)) / 1e6, 4) for key, q in at.items()
            }
        return found

    def _delayed_ns(self) -> int:
        if self._file is None:
            return 0
        return int(os.pread(self._file, 100, 0).split()[1])
