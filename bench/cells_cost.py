"""What telling cells apart, measuring and writing them adds to a run that the network holds back.

    python bench/cells_cost.py made8k.tif --rounds 3

The same slide without cells, with labels, and with all that `infer` writes, in turns; the share is
of the run without. Two minutes on a quiet machine of two cores.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

from contest import save_record, spread
from measure import whole_run

WRITES = {
    "without cells": ("classes", "overlay"),
    "labels": ("classes", "labels", "overlay"),
    "all": ("classes", "labels", "geojson", "cells", "overlay"),
}


def main() -> None:
    """Measure and write."""
    from cellseg.runtime.jobs.options import InferOptions

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "-o", "--out", type=Path, default=Path(__file__).parent / "results" / "cells-cost.json"
    )
    options = parser.parse_args()
    chosen = InferOptions(engine=options.engine, precision=options.precision, tile_px=options.tile)
    whole_run(options.slide, replace(chosen, write=WRITES["all"]))  # kernels are compiled and kept
    wall: dict[str, list[float]] = {name: [] for name in WRITES}
    for _ in range(options.rounds):
        for name, write in WRITES.items():
            run, _ = whole_run(options.slide, replace(chosen, write=write))
            wall[name].append(float(run["wall_s"]))
            print(name, wall[name][-1], flush=True)
    without = statistics.median(wall["without cells"])
    times = {name: statistics.median(each) / without for name, each in wall.items()}
    for name, each in wall.items():
        print(f"{name}: {spread(each, 1)} s, {times[name]:.2f} times")
    record = {"slide": options.slide.name, "precision": options.precision}
    save_record(options.out, {**record, "rounds": options.rounds, "wall_s": wall, "times": times})


if __name__ == "__main__":
    main()
