"""How long the cores of this machine have worked, as Linux counts it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["CoreTime", "read_core_time"]

_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class CoreTime:
    """Time of some cores since the machine was started, summed."""

    busy_s: float
    """They ran something."""

    stolen_s: float
    """They were given to other virtual machines."""

    total_s: float
    """Idle time included."""


def read_core_time(stat: Path = _STAT, cores: Collection[int] | None = None) -> CoreTime | None:
    """Read what cores did so far.

    Parameters
    ----------
    stat : Path
        The kernel's file; resolution a tick, 10 ms as a rule.
    cores : collection of int, optional
        Numbers of the cores; by default all.

    Returns
    -------
    CoreTime or None
        None where the system does not tell.
    """
    wanted = {"cpu"} if cores is None else {f"cpu{core}" for core in cores}
    try:
        rows = [line.split() for line in stat.read_text(encoding="ascii").splitlines()]
        ticks = [[int(word) for word in row[1:9]] for row in rows if row and row[0] in wanted]
    except (OSError, ValueError):
        return None
    if not ticks or any(len(row) < 8 for row in ticks):
        return None
    second = os.sysconf("SC_CLK_TCK")
    sums = [sum(column) / second for column in zip(*ticks, strict=True)]
    user, nice, system, idle, waiting, irq, softirq, stolen = sums
    busy = user + nice + system + irq + softirq
    return CoreTime(busy, stolen, busy + idle + waiting + stolen)
