"""What else happens to a machine during a measurement: throttling, sleep, neighbours.

`MachineWatch` looks before and after; what a system does not tell is None. `doubts` says what of it
makes a measurement worthless, in words for the report.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellseg.bench.meters.sysfs import read_number, read_text
from cellseg.bench.record import MachineState
from cellseg.runtime.machine.core_time import CoreTime, read_core_time

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MachineWatch", "clock_mhz", "doubts", "drift"]

_SLEPT_S = 1.0
_STOLEN = 0.05
_OTHERS = 0.20
_CLOCK_FALL = 0.10
_DRIFT = 0.10
_DRIFT_ORDER = 0.6  # Kendall's tau: how steadily it goes one way


class MachineWatch:
    """Looks at the machine around a measurement.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are; for tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._cores = _cores_time(root)
        self._throttled = _throttle_events(root)
        self._asleep_s = _asleep_s()
        self._own_s = _own_s()

    def state(self) -> MachineState:
        """Return what happened since this was made."""
        cores, before = _cores_time(self._root), self._cores
        throttled, asleep_s = _throttle_events(self._root), _asleep_s()
        own_s = _own_s() - self._own_s
        stolen = others = None
        if cores and before and cores.total_s > before.total_s:
            total_s = cores.total_s - before.total_s
            stolen = (cores.stolen_s - before.stolen_s) / total_s
            others = max(0.0, cores.busy_s - before.busy_s - own_s) / total_s
        return MachineState(
            clock_mhz=clock_mhz(self._root),
            temperature_c=_temperature(self._root),
            throttle_events=_since(throttled, self._throttled),
            slept_s=None
            if asleep_s is None or self._asleep_s is None
            else asleep_s - self._asleep_s,
            stolen_share=stolen,
            others_share=others,
        )


def clock_mhz(root: Path = Path("/")) -> float | None:
    """Mean clock of the cores at this moment; None where the system does not tell."""
    found = [
        read_number(p) for p in root.glob("sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")
    ]
    known = [khz / 1e3 for khz in found if khz is not None]
    if not known:
        lines = read_text(root / "proc/cpuinfo").splitlines()
        known = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return round(sum(known) / len(known), 1) if known else None


def doubts(states: Sequence[MachineState], medians: Sequence[float]) -> list[str]:
    """Say why the rounds of one contestant cannot be trusted; empty if nothing speaks against it.

    Parameters
    ----------
    states : sequence of MachineState
        One a round, in order of time.
    medians : sequence of float
        Median time of each round.
    """
    found = []
    slept = sum(state.slept_s or 0.0 for state in states)
    throttled = sum(state.throttle_events or 0 for state in states)
    stolen = max((state.stolen_share or 0.0 for state in states), default=0.0)
    others = float(np.median([state.others_share or 0.0 for state in states])) if states else 0.0
    if slept > _SLEPT_S:
        found.append(f"the machine slept for {slept:.0f} s")
    if throttled:
        found.append(f"the processor throttled for heat ({throttled} events)")
    if stolen > _STOLEN:
        found.append(f"the hypervisor gave {stolen:.0%} of the cores to others")
    if others > _OTHERS:
        found.append(f"other programs used {others:.0%} of the cores")
    fall = _clock_fall([state.clock_mhz for state in states])
    if fall > _CLOCK_FALL:
        found.append(f"the clock fell by {fall:.0%}")
    if (moved := drift(medians)) is not None:
        found.append(f"times drifted by {moved:+.0%} from the first rounds to the last")
    return found


def drift(medians: Sequence[float]) -> float | None:
    """Return by how much rounds got slower (above 0) or faster, if they did so steadily.

    Four rounds at least; fewer cannot tell a drift from chance.
    """
    count = len(medians)
    if count < 4:
        return None
    third = -(-count // 3)
    change = float(np.median(medians[-third:]) / np.median(medians[:third])) - 1
    pairs = [(i, j) for j in range(count) for i in range(j)]
    order = sum(np.sign(medians[j] - medians[i]) for i, j in pairs) / len(pairs)
    return change if abs(change) > _DRIFT and abs(order) >= _DRIFT_ORDER else None


def _clock_fall(clocks: Sequence[float | None]) -> float:
    known = [clock for clock in clocks if clock]
    if len(known) < 3:
        return 0.0
    third = -(-len(known) // 3)
    return 1 - float(np.median(known[-third:]) / np.median(known[:third]))


def _cores_time(root: Path) -> CoreTime | None:
    """Sum up the time of the cores that this process may use."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return read_core_time(root / "proc/stat", cores)


def _own_s() -> float:
    """Processor time of this process and of the children that it waited for."""
    return sum(os.times()[:4])


def _throttle_events(root: Path) -> int | None:
    folder = "sys/devices/system/cpu/cpu*/thermal_throttle"
    names = ("core_throttle_count", "package_throttle_count")
    found = [read_number(path) for name in names for path in root.glob(f"{folder}/{name}")]
    known = [count for count in found if count is not None]
    return sum(known) if known else None


def _asleep_s() -> float | None:
    """Seconds for which the machine has been suspended since it was started."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    if boot is None:
        return None
    return time.clock_gettime(boot) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _temperature(root: Path) -> float | None:
    found = [read_number(path) for path in root.glob("sys/class/thermal/thermal_zone*/temp")]
    known = [value / 1e3 for value in found if value is not None and value > 0]
    return max(known) if known else None


def _since(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else now - before
