"""Runs a contestant as a process of its own: wall time, peak memory, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Finish", "ProcessFailed", "run_process"]

_POLL_S = 0.02
_SAID_LAST = 1500


class ProcessFailed(RuntimeError):
    """A process did not finish; the message ends with what it said last."""


@dataclass(frozen=True)
class Finish:
    """One finished process."""

    wall_s: float
    """From start to end of the process."""

    peak_rss_mb: float
    """The most that the process had in memory, 1e6 bytes; to the last 20 ms. 0 but on Linux."""

    cpu_s: float
    """Processor time of all its threads, and of processes that it waited for; 0 on Windows."""

    said: dict[str, Any]
    """The JSON object on the last line of its output."""


def run_process(
    command: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None
) -> Finish:
    """Run a command to its end.

    Parameters
    ----------
    command : sequence of str
        Program and words. It gets a session of its own, so that Ctrl-C does not reach it; it is
        ended here.
    timeout_s : float
        It is ended after this time.
    environment : mapping, optional
        Variables beside those of this process.

    Raises
    ------
    ProcessFailed
        If it fails, takes too long, or says no JSON.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            list(command), stdout=out, stderr=err, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        cpu_before_s = _children_cpu_s()
        wall_s, peak_mb = _watched(process, timeout_s)
        cpu_s = _children_cpu_s() - cpu_before_s
        out.seek(0)
        err.seek(0)
        printed, complained = out.read(), err.read()
    if process.returncode:
        why = "took too long" if wall_s > timeout_s else _ending(process.returncode)
        said = (complained.strip() or printed.strip())[-_SAID_LAST:]
        raise ProcessFailed(f"{why}: {said}" if said else why)
    return Finish(wall_s, peak_mb, cpu_s, _last_object(printed))


def _watched(process: subprocess.Popen[Any], timeout_s: float) -> tuple[float, float]:
    """Wait for the end; seconds and peak memory in MB.

    The kernel's own account at the end of a process starts from what its parent had, hence the
    second thread.
    """
    started_s = time.perf_counter()
    peak_mb = [0.0]
    over = threading.Event()

    def poll() -> None:
        while not over.wait(_POLL_S):
            peak_mb[0] = max(peak_mb[0], _peak_rss_mb(process.pid))

    poller = threading.Thread(target=poll, daemon=True)
    poller.start()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        wall_s = time.perf_counter() - started_s
        over.set()
        poller.join()
    return wall_s, peak_mb[0]


def _children_cpu_s() -> float:
    """Return the processor time of all children that have been waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


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
    raise ProcessFailed(f"must say JSON on its last line. Received: {text[-_SAID_LAST:]!r}")
