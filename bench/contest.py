"""Contestants that take turns, each run a process of its own: wall time, peak memory, result."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

POLL_S = 0.02


class ContestError(RuntimeError):
    """A contestant did not finish; the message ends with what it said last."""


@dataclass(frozen=True)
class Finish:
    """One finished process."""

    wall_s: float
    """From start to end of the process."""

    peak_rss_mb: float
    """The most that the process had in memory, 1e6 bytes; to the last 20 ms."""

    said: dict[str, Any]
    """The JSON object on the last line of its output."""


@dataclass
class Tally:
    """All rounds of one contestant."""

    seconds: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    peak_rss_mb: list[float] = field(default_factory=list)

    def add(self, finish: Finish) -> None:
        """Count a round."""
        self.seconds.append(float(finish.said.get("work_s", finish.wall_s)))
        self.wall_s.append(finish.wall_s)
        self.peak_rss_mb.append(finish.peak_rss_mb)


def run_process(command: list[str], timeout_s: float) -> Finish:
    """Run a command to its end.

    Raises
    ------
    ContestError
        If it fails, takes too long, or says no JSON.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        peak_mb = _wait(process, started + timeout_s)
        wall_s = time.perf_counter() - started
        out.seek(0)
        err.seek(0)
        printed, complained = out.read(), err.read()
    if process.returncode or peak_mb is None:
        why = "took too long" if peak_mb is None else f"ended with {process.returncode}"
        raise ContestError(f"{Path(command[1]).name} {why}: {(complained or printed)[-1500:]}")
    return Finish(wall_s, peak_mb, _last_object(printed))


def _wait(process: subprocess.Popen[Any], until: float) -> float | None:
    """Return the peak memory in MB; None if the process had to be stopped for its time.

    The kernel's own account at the end of a process starts from what its parent had, hence this.
    """
    peak_mb = 0.0
    while process.poll() is None:
        peak_mb = max(peak_mb, _peak_rss_mb(process.pid))
        if time.perf_counter() > until:
            process.kill()
            process.wait()
            return None
        time.sleep(POLL_S)
    return peak_mb


def _peak_rss_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0")
    return int(line.split()[1]) * 1024 / 1e6


def _last_object(text: str) -> dict[str, Any]:
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            said: dict[str, Any] = json.loads(line)
            return said
    raise ContestError(f"No JSON on the last line. Received: {text[-500:]!r}.")


def spread(values: list[float], digits: int = 2) -> str:
    """Format the median with the smallest and the largest value behind."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def machine_words() -> str:
    """Name the machine in one line."""
    from cellseg.runtime.machine import this_machine

    facts = this_machine()
    return f"{facts.cpu} ({' '.join(facts.cpu_flags or ())}), {facts.cores} cores, {facts.system}"


def save_record(path: Path, record: dict[str, Any]) -> None:
    """Write a measurement as JSON, the machine beside it."""
    from cellseg.runtime.machine import this_machine

    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": asdict(this_machine()), **record}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
