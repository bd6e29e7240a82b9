"""Training on a CPU, where freed memory is kept for the next step and where it is not.

    python bench/training_step.py DATA [--recipe nuclei] [--steps 30] [--rounds 3]

Each round is a process of its own, in turns: two short epochs of a recipe, validation included, of
which the second counts; in the first, TensorFlow compiles.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

from contest import Tally, save_record, spread

from cellseg.bench.rounds.process import run_process

RESULT = Path(__file__).parent / "results" / "training-step.json"
WAYS = ("kept", "returned")
TIMEOUT_S = 900


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--recipe", default="nuclei")
    parser.add_argument("--steps", type=int, default=30, help="in an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(trained(asked.recipe, asked.data, asked.steps, asked.way)))
        return
    tallies = {way: Tally() for way in WAYS}
    system_s: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(asked.rounds):
        for way, tally in tallies.items():
            finish = run_process([sys.executable, *sys.argv, "--way", way], TIMEOUT_S)
            tally.add(finish)
            system_s[way].append(finish.said["system_s"])
            print(way, finish.said, flush=True)
    for way, tally in tallies.items():
        print(
            f"{way}: an epoch {spread(tally.seconds, 1)} s, processor time of the process "
            f"{spread(tally.cpu_s, 0)} s, {spread(system_s[way], 0)} s of it in the system, "
            f"peak {spread(tally.peak_rss_mb, 0)} MB"
        )
    kept, returned = (statistics.median(tallies[way].seconds) for way in WAYS)
    print(f"{returned / kept:.2f} times as fast where freed memory is kept")
    ways = {
        way: {
            "epoch_s": tally.seconds,
            "cpu_s": tally.cpu_s,
            "system_s": system_s[way],
            "peak_rss_mb": tally.peak_rss_mb,
        }
        for way, tally in tallies.items()
    }
    record = {"recipe": asked.recipe, "steps": asked.steps, "rounds": asked.rounds}
    save_record(RESULT, {**record, "ways": ways, "ratio": returned / kept})


def trained(name: str, data: Path, steps: int, way: str) -> dict[str, float]:
    """Train two epochs; return the seconds of the second, and what the system took of both."""
    import cellseg.train.loop.fit as module
    from cellseg.train.recipes.recipe import load_recipe

    recipe = load_recipe(name)
    fit = recipe.fit.model_copy(update={"epochs": 2, "steps_per_epoch": steps})
    short = recipe.model_copy(update={"fit": fit})
    with tempfile.TemporaryDirectory() as folder:
        if way == "returned":
            with patch.object(module, "freed_memory_kept", nullcontext):
                run = module.train(short, data, Path(folder) / "run")
        else:
            run = module.train(short, data, Path(folder) / "run")
        with (run / "metrics.csv").open(newline="", encoding="utf-8") as table:
            *_, last = csv.DictReader(table)
    return {"work_s": float(last["seconds"]), "system_s": os.times().system}


if __name__ == "__main__":
    main()
