"""Measure the ring: what reading costs, how long a frame is under way, what is lost.

    python bench/ring.py [--side 1024] [--rate 30] [--seconds 10] [-o bench/results/ring.json]

A C program (``examples/ring_writer.c``, built here with gcc) publishes RGB frames; `RingSource`
takes them in this process, which does nothing else. Then the same without a pause, for torn frames.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from cellseg.errors import RingError
from cellseg.live.ring import include_dir
from cellseg.live.sources.ring import RingSource

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    parser.add_argument("--rate", type=float, default=30.0, help="frames a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        camera = build(Path(folder))
        paced = measure(camera, chosen.side, chosen.rate, int(chosen.rate * chosen.seconds))
        flat_out = measure(camera, chosen.side, 1e6, int(20 * chosen.rate * chosen.seconds))
    found = {
        "side_px": chosen.side,
        "rate": chosen.rate,
        "paced": paced,
        "flat_out": flat_out,
        "cpus": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
    }
    text = json.dumps(found, indent=2)
    sys.stdout.write(f"{text}\n")
    if chosen.out is not None:
        chosen.out.write_text(f"{text}\n", encoding="utf-8")


def build(folder: Path) -> Path:
    """Build the camera program."""
    camera = folder / "ring_writer"
    source = ROOT / "examples" / "ring_writer.c"
    words = ["gcc", "-O2", "-std=c11", "-I", str(include_dir()), str(source), "-o", str(camera)]
    subprocess.run([*words, "-lrt"], check=True)
    return camera


def measure(camera: Path, side: int, rate: float, frames: int) -> dict[str, Any]:
    """Read all frames of a camera; return what that took."""
    name = f"cellseg-bench-{os.getpid()}"
    raw = camera.with_suffix(".rgb")
    raw.write_bytes(bytes(side * side * 3))
    words = [str(camera), name, str(side), str(side), str(rate), str(frames), str(raw)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL):
        source = opened(name)
        started_s, busy_s = time.monotonic(), time.process_time()
        delays_ms = [
            (time.monotonic_ns() - frame.meta.exposure_start_ns) / 1e6
            for frame in source.frames(Event())
        ]
        wall_s, busy_s = time.monotonic() - started_s, time.process_time() - busy_s
    return {
        "frames": frames,
        "taken": len(delays_ms),
        "missed": source.missed,
        "torn": source.torn,
        "cpu_share_of_a_core": round(busy_s / wall_s, 4),
        "begun_to_taken_ms": {
            f"p{q}": round(float(np.percentile(delays_ms, q)), 3) for q in (50, 99)
        },
    }


def opened(name: str) -> RingSource:
    """Wait for the camera."""
    source = None
    while source is None:
        with suppress(RingError):
            source = RingSource(name)
    return source


if __name__ == "__main__":
    main()
