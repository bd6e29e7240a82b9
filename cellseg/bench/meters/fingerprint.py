"""What a report says of the machine, so that a reader can tell whose numbers these are."""

from __future__ import annotations

import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cellseg
from cellseg.bench.meters import nvml
from cellseg.bench.meters.sysfs import read_number, read_text
from cellseg.bench.meters.watch import clock_mhz
from cellseg.runtime.engines import ENGINES
from cellseg.runtime.machine.facts import this_machine
from cellseg.runtime.writers.run_json import installed_version

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["fingerprint", "machine_words", "same_machine"]

_LIBRARIES = ("numpy", "numba", "opencv-python-headless", "tifffile", "imagecodecs")
_HARDWARE = ("architecture", "cpu", "cores", "gpus")
_CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"


def fingerprint(root: Path = Path("/")) -> dict[str, Any]:
    """Return the facts of this machine, JSON values; what it does not tell is null.

    Parameters
    ----------
    root : Path
        Where ``sys``, ``proc`` and ``var`` are; for tests.
    """
    library = nvml.find_library()
    machine = asdict(this_machine())
    flags = machine.pop("cpu_flags")
    return machine | {
        "cpu_flags": None if flags is None else list(flags),
        "gpus": [] if library is None else library.gpus(),
        "clock_mhz": clock_mhz(root),
        "clock_min_mhz": _megahertz(root / _CPUFREQ / "cpuinfo_min_freq"),
        "clock_max_mhz": _megahertz(root / _CPUFREQ / "cpuinfo_max_freq"),
        "governor": read_text(root / _CPUFREQ / "scaling_governor") or None,
        "power_mode": _power_mode(root),
        "on_battery": _on_battery(root),
        "hypervisor": "hypervisor" in read_text(root / "proc/cpuinfo"),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "libraries": _versions(),
        "cellseg": cellseg.__version__,
        "git_commit": _git_commit(),
    }


def same_machine(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return in what two machines differ that changes speed; empty if they are alike."""
    return [
        f"{key}: {one.get(key)} and {other.get(key)}"
        for key in _HARDWARE
        if one.get(key) != other.get(key)
    ]


def machine_words(facts: Mapping[str, Any]) -> str:
    """Name a machine in one line."""
    flags = " ".join(facts.get("cpu_flags") or ())
    parts = [f"{facts['cpu']} ({flags})" if flags else str(facts["cpu"])]
    parts.append(f"{facts['cores']} cores")
    parts += [str(gpu["name"]) for gpu in facts.get("gpus") or ()]
    return ", ".join([*parts, str(facts["system"])])


def _versions() -> dict[str, str]:
    found = {name: installed_version(name) for name in (*_LIBRARIES, *ENGINES)}
    known = {name: version for name, version in found.items() if version is not None}
    return {"python": this_machine().python, **known}


def _git_commit() -> str | None:
    """Commit of the source tree, ``+changes`` behind it if it is not clean; None for a package."""
    folder = Path(cellseg.__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+changes" if changed else commit


def _git(folder: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def _power_mode(root: Path) -> str | None:
    """Mode of a Jetson (nvpmodel), else the platform's profile."""
    jetson = read_text(root / "var/lib/nvpmodel/status")
    return jetson or read_text(root / "sys/firmware/acpi/platform_profile") or None


def _on_battery(root: Path) -> bool | None:
    online = [read_number(p) for p in root.glob("sys/class/power_supply/*/online")]
    known = [value for value in online if value is not None]
    return not any(known) if known else None


def _megahertz(path: Path) -> float | None:
    khz = read_number(path)
    return None if khz is None else khz / 1e3
