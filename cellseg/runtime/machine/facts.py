"""What this machine is: processor, usable cores, memory.

One place asks the operating system, so that ``doctor``, ``run.json`` and the engine choice say the
same. A fact that the system does not tell is ``None``.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "this_machine", "usable_cores"]

_SPEED_FLAGS = (  # name we use: names in /proc/cpuinfo (x86-64, then ARM)
    ("avx2", ("avx2",)),
    ("avx512", ("avx512f",)),
    ("vnni", ("avx512_vnni", "avx_vnni")),
    ("bf16", ("avx512_bf16", "bf16")),
    ("amx", ("amx_tile",)),
    ("neon", ("asimd",)),
    ("dotprod", ("asimddp",)),
    ("i8mm", ("i8mm",)),
    ("sve", ("sve",)),
)


@dataclass(frozen=True)
class Machine:
    """The facts about a machine that change how fast a model runs."""

    system: str
    """Operating system and its release, e.g. ``"Linux 6.8.0"``."""
    architecture: str
    """``"x86_64"``, ``"aarch64"``, ``"arm64"`` or ``"AMD64"``."""
    python: str
    """Version of the running interpreter."""
    cpu: str
    """Processor's name; the architecture where the system gives no name."""
    cpu_flags: tuple[str, ...] | None
    """Instruction sets that matter for inference; None where the system does not tell."""
    cores: int
    """Cores this process may use: affinity and container limit count."""
    memory_mb: int | None
    """Memory this process may use, MiB: a container's limit counts."""


@functools.cache
def this_machine() -> Machine:
    """Return the facts about the machine this process runs on."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        cpu=_cpu_name(),
        cpu_flags=_cpu_flags(),
        cores=usable_cores(),
        memory_mb=_memory_mb(),
    )


def usable_cores() -> int:
    """Return how many cores this process may keep busy at once, at least 1."""
    cores = os.cpu_count() or 1
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    quota = _cgroup_cores()
    return max(1, min(cores, round(quota))) if quota else max(1, cores)


def _cgroup_cores() -> float | None:
    """Cores a container may use on average; None without a limit."""
    fields = _read("/sys/fs/cgroup/cpu.max").split()
    if len(fields) != 2 or fields[0] == "max":
        return None
    return int(fields[0]) / int(fields[1])


def _memory_mb() -> int | None:
    found = [limit for limit in (_physical_bytes(), _cgroup_bytes()) if limit]
    return min(found) // 2**20 if found else None


def _cgroup_bytes() -> int | None:
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    return int(limit) if limit.isdigit() else None


def _physical_bytes() -> int | None:
    if sys.platform == "win32":
        import ctypes

        kib = ctypes.c_ulonglong()  # the one call below answers in KiB
        known = ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kib))
        return kib.value * 1024 if known else None
    else:
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (OSError, ValueError):
            return None


def _cpu_name() -> str:
    for key in ("model name", "Model", "Hardware"):
        if name := _cpuinfo().get(key):
            return name
    return _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()


def _cpu_flags() -> tuple[str, ...] | None:
    info = _cpuinfo()
    listed = info.get("flags") or info.get("Features") or _sysctl("machdep.cpu.leaf7_features")
    if not listed:
        return None
    words = set(listed.lower().split())
    return tuple(name for name, spellings in _SPEED_FLAGS if words.intersection(spellings))


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """First processor's entries of Linux' /proc/cpuinfo; empty elsewhere."""
    pairs = (line.partition(":") for line in _read("/proc/cpuinfo").splitlines())
    info: dict[str, str] = {}
    for key, _, value in pairs:
        info.setdefault(key.strip(), value.strip())
    return info


def _sysctl(name: str) -> str | None:
    if platform.system() != "Darwin":
        return None
    import subprocess

    answer = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
