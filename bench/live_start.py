"""Measure how long a live run takes from its start to its first result.

    python bench/live_start.py [-n 5] [-o bench/results/live-start.json] [LIVE OPTIONS]

Each run is ``cellseg-cli live`` in a fresh process, with its page, on the demo slide played as a
camera; its page is asked until a result is there. The first run has empty caches (nothing compiled,
no engine chosen), the others find them full, as every start of an instrument but its first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SLIDE = ROOT / "examples" / "cmu-1-small-region.svs"
BAR_S = 5.0


def main() -> None:
    """Start runs, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=5, help="starts with full caches")
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write")
    known, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        first, *later = [measure_start(Path(folder), options) for _ in range(known.n + 1)]
    found = {
        "command": " ".join(["live", "slide:cmu-1-small-region.svs", *options]),
        "caches_empty": first,
        "caches_full": later,
        "caches_full_median_s": statistics.median(each["first_result_s"] for each in later),
        "bar_s": BAR_S,
        "cpus": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
    }
    text = json.dumps(found, indent=2)
    sys.stdout.write(f"{text}\n")
    if known.out is not None:
        known.out.write_text(f"{text}\n", encoding="utf-8")


def measure_start(caches: Path, options: list[str]) -> dict[str, float | None]:
    """Start a live run; return the seconds until its first result, on the clock and of a core."""
    words = ["live", f"slide:{SLIDE}", "--rate", "5", "--headless", "--page", "--port", "0"]
    here = {"CELLSEG_CACHE": str(caches), "NUMBA_CACHE_DIR": str(caches / "numba")}
    started_s = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "cellseg", *words, *options],
        cwd=ROOT,
        env=os.environ | here,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("page: "))
        url = line.split()[1].replace("/?", "/api/state?")
        while not ask(url)["done"]:
            time.sleep(0.01)
        took_s, cpu_s = time.monotonic() - started_s, cpu_seconds(process.pid)
        process.terminate()
        process.stderr.read()
    return {"first_result_s": round(took_s, 3), "cpu_s": cpu_s}


def cpu_seconds(pid: int) -> float | None:
    """Return what a process has used of all cores so far: what a busy machine does not stretch."""
    path = Path(f"/proc/{pid}/stat")
    if not path.exists():
        return None
    fields = path.read_text(encoding="ascii").rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return round(ticks / os.sysconf("SC_CLK_TCK"), 2)


def ask(url: str) -> dict[str, Any]:
    """Return the state that a page shows."""
    with urllib.request.urlopen(url, timeout=30) as got:
        state: dict[str, Any] = json.load(got)
    return state


if __name__ == "__main__":
    main()
