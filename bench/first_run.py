"""What the first run on a machine takes, with nothing compiled and nothing chosen, and the next.

    python bench/first_run.py [-n 3] [-o bench/results/first-run.json]

``cellseg-cli infer`` on the demo slide, in processes of their own. Kernels are compiled for the
processor, and an engine is chosen by trying; both are kept. Two minutes for three rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contest import save_record, spread

ROOT = Path(__file__).resolve().parents[1]
SLIDE = ROOT / "examples" / "cmu-1-small-region.svs"


def main() -> None:
    """Measure, print and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=3, help="rounds")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "bench/results/first-run.json")
    options = parser.parse_args()
    took: dict[str, list[float]] = {"first": [], "next": []}
    for _ in range(options.n):
        with tempfile.TemporaryDirectory() as folder:
            for name in took:
                took[name].append(measure(Path(folder), name))
    for name, each in took.items():
        print(f"{name} run: {spread(each, 1)} s")
    save_record(options.out, {"slide": SLIDE.name, "seconds": took})


def measure(folder: Path, name: str) -> float:
    """Run the slide with the caches of a folder; return seconds, the start of Python included."""
    caches = {"CELLSEG_CACHE": str(folder / "cache"), "NUMBA_CACHE_DIR": str(folder / "numba")}
    words = [sys.executable, "-m", "cellseg", "infer", str(SLIDE), "-o", str(folder / name)]
    started_s = time.monotonic()
    subprocess.run(words, cwd=ROOT, env=os.environ | caches, check=True, capture_output=True)
    return time.monotonic() - started_s


if __name__ == "__main__":
    main()
