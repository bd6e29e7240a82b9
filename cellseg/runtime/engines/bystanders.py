"""Whether other processes took cores that a trial wanted: then what it measured is about them.

Linux tells; elsewhere a machine is taken to be ours.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from cellseg.runtime.machine.core_time import read_core_time
from cellseg.runtime.machine.facts import usable_cores

__all__ = ["Bystanders", "is_busy"]

_STAT = Path("/proc/stat")
_TOLERATED = 0.15  # part of our cores that others may take without changing what is fastest
_LOOK_S = 0.1


@dataclass
class Bystanders:
    """What others' work took from us while a block ran.

    Examples
    --------
    >>> with Bystanders() as others:
    ...     total = sum(range(1000))
    >>> others.disturbed in (True, False)
    True
    """

    disturbed: bool = False
    """Known at the end of the block."""

    def __enter__(self) -> Bystanders:
        self._start = _seconds()
        return self

    def __exit__(self, *_: object) -> None:
        wall_s, busy_s, ours_s = (
            now - then for now, then in zip(_seconds(), self._start, strict=True)
        )
        wanted, spare = usable_cores(), (os.cpu_count() or 1) - usable_cores()
        others = (busy_s - ours_s) / max(wall_s, 1e-9)
        self.disturbed = others - spare > _TOLERATED * wanted


def is_busy() -> bool:
    """Look for a moment whether others use our cores now."""
    with Bystanders() as others:
        time.sleep(_LOOK_S)
    return others.disturbed


def _seconds() -> tuple[float, float, float]:
    """Wall time, busy time of all cores, and our own processor time."""
    return time.perf_counter(), _busy_s(), time.process_time()


def _busy_s() -> float:
    """Seconds that all cores together worked, or were taken by other virtual machines."""
    found = read_core_time(_STAT)
    return 0.0 if found is None else found.busy_s + found.stolen_s
