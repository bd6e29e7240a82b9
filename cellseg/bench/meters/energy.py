"""Energy meters that a machine may have: RAPL, NVIDIA's NVML, and the INA3221 of Jetsons.

All are optional, and read through sysfs or the driver's own library; nothing is installed. Where a
meter cannot be read (RAPL needs root on most systems) it is not there.

``rapl``     counters of microjoules in /sys/class/powercap, one a processor package, that wrap
``ina3221``  volts and amperes of the board's input, sampled ten times a second and summed up
``nvml``     millijoules of all GPUs since the driver was loaded
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cellseg.bench.meters import nvml
from cellseg.bench.meters.sysfs import read_number, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Ina3221", "Meter", "Nvml", "Rapl", "find_meters", "idle_watts", "joules_of"]

_POWERCAP = Path("/sys/class/powercap")
_HWMON = Path("/sys/class/hwmon")
_SAMPLE_S = 0.1
_BOARD_RAILS = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0")  # what feeds the whole board, by model


class Meter(Protocol):
    """Counts energy between two calls."""

    name: str

    def start(self) -> None:
        """Begin to count."""
        ...

    def stop(self) -> float | None:
        """Return joules since `start`; None if the meter went away."""
        ...


class Rapl:
    """Processor packages (Intel, AMD)."""

    name = "rapl"

    def __init__(self, root: Path = _POWERCAP) -> None:
        # Sub-domains (intel-rapl:0:1) are part of their package.
        found = sorted(root.glob("*-rapl:?")) if root.is_dir() else []
        self._zones = [zone for zone in found if read_number(zone / "energy_uj") is not None]
        self._before: list[int | None] = []

    @property
    def is_there(self) -> bool:
        """Whether a counter can be read."""
        return bool(self._zones)

    def start(self) -> None:
        """Begin to count."""
        self._before = [read_number(zone / "energy_uj") for zone in self._zones]

    def stop(self) -> float | None:
        """Return joules since `start`, counters that wrapped once included."""
        total = 0
        for zone, before in zip(self._zones, self._before, strict=True):
            now, limit = read_number(zone / "energy_uj"), read_number(zone / "max_energy_range_uj")
            if now is None or before is None:
                return None
            total += now - before if now >= before else now - before + (limit or 0)
        return total / 1e6


class Ina3221:
    """The power monitor of Jetson boards, on the rail that feeds the whole board."""

    name = "ina3221"

    def __init__(self, root: Path = _HWMON, every_s: float = _SAMPLE_S) -> None:
        self._rail = _board_rail(root)
        self._every_s = every_s
        self._joule = 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_there(self) -> bool:
        """Whether the rail can be read."""
        return self._rail is not None and self._watts() is not None

    def start(self) -> None:
        """Begin to sample."""
        self._joule = 0.0
        self._over.clear()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """Return joules since `start`."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        return self._joule

    def _sample(self) -> None:
        before_s, before_w = time.perf_counter(), self._watts() or 0.0
        is_over = False
        while not is_over:
            is_over = self._over.wait(self._every_s)
            now_s, now_w = time.perf_counter(), self._watts() or before_w
            self._joule += (before_w + now_w) / 2 * (now_s - before_s)
            before_s, before_w = now_s, now_w

    def _watts(self) -> float | None:
        if self._rail is None:
            return None
        folder, channel = self._rail
        millivolt = read_number(folder / f"in{channel}_input")
        milliampere = read_number(folder / f"curr{channel}_input")
        if millivolt is None or milliampere is None:
            return None
        return millivolt * milliampere / 1e6


class Nvml:
    """NVIDIA GPUs."""

    name = "nvml"

    def __init__(self, library: nvml.Library | None = None) -> None:
        self._library = nvml.find_library() if library is None else library
        self._before: float | None = None

    @property
    def is_there(self) -> bool:
        """Whether a GPU counts its energy."""
        return self._library is not None and self._library.joules() is not None

    def start(self) -> None:
        """Begin to count."""
        self._before = None if self._library is None else self._library.joules()

    def stop(self) -> float | None:
        """Return joules since `start`."""
        now = None if self._library is None else self._library.joules()
        return None if now is None or self._before is None else now - self._before


def find_meters() -> list[Meter]:
    """Return the meters that this machine has, and that this user may read."""
    return [meter for meter in (Rapl(), Ina3221(), Nvml()) if meter.is_there]


def joules_of(meters: Sequence[Meter]) -> dict[str, float]:
    """Stop meters; joules by name, without those that went away."""
    stopped = {meter.name: meter.stop() for meter in meters}
    return {name: joule for name, joule in stopped.items() if joule is not None}


def idle_watts(meters: Sequence[Meter], seconds: float) -> dict[str, float]:
    """Watts of the machine while nothing of ours runs; empty without meters."""
    if not meters:
        return {}
    for meter in meters:
        meter.start()
    started_s = time.perf_counter()
    time.sleep(seconds)
    took_s = time.perf_counter() - started_s
    return {name: joule / took_s for name, joule in joules_of(meters).items()}


def _board_rail(root: Path) -> tuple[Path, int] | None:
    """Return folder and channel of the rail that feeds the board."""
    for folder in sorted(root.glob("hwmon*")) if root.is_dir() else ():
        if read_text(folder / "name") != "ina3221":
            continue
        for label in sorted(folder.glob("in*_label")):
            if read_text(label) in _BOARD_RAILS:
                return folder, int(label.name[2:].split("_")[0])
    return None
