"""Run one slide in many ways, and killed at random: one file, byte for byte, or exit 1.

    python bench/invariance.py made-4k.tif --page

Three batch sizes, three numbers of workers, two memory caps; then runs that are killed with
SIGKILL at random moments and gone on with by the same command. The tile is fixed, since only
another tile may differ (by what bench/scaling.py says). Prints a table; exits with 1 if the sha256
of ``classes.ome.tif`` is not one.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from contest import machine_words, save_record
from pages import write_section

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Outcome:
    """One finished run."""

    how: str
    """What was chosen."""

    kills: int
    """Times it was killed before."""

    seconds: float
    """Of the last process."""

    sha256: str
    """Of ``classes.ome.tif``."""


class Runner:
    """Runs the command line into a folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    def start(self, folder: Path, *extra: str) -> subprocess.Popen[bytes]:
        """Start a run; what it says is kept in ``said.txt`` beside the results."""
        chosen = self.options
        folder.mkdir(parents=True, exist_ok=True)
        fixed = ["--engine", chosen.engine, "--precision", chosen.precision]
        fixed += ["--tile", str(chosen.tile), "--write", "classes", "--no-tissue-mask"]
        command = [sys.executable, "-m", "cellseg", "infer", str(chosen.slide), "-o", str(folder)]
        with (folder / "said.txt").open("ab") as said:
            return subprocess.Popen([*command, *fixed, *extra], stdout=said, stderr=said)

    def finish(self, folder: Path, how: str, kills: int, *extra: str) -> Outcome:
        """Run to the end and take the hash."""
        started = time.perf_counter()
        status = self.start(folder, *extra).wait()
        if status:
            raise SystemExit(f"{how} ended with {status}:\n{(folder / 'said.txt').read_text()}")
        seconds = time.perf_counter() - started
        (path,) = folder.glob("*/classes.ome.tif")
        return Outcome(how, kills, seconds, hashlib.sha256(path.read_bytes()).hexdigest())


def by_settings(runner: Runner, work: Path) -> list[Outcome]:
    """Run every combination of batch, workers and memory cap."""
    chosen = runner.options
    outcomes = []
    for batch, workers, ram in itertools.product(chosen.batches, chosen.workers, chosen.max_ram):
        how = f"batch {batch}, workers {workers}, max-ram {ram}"
        extra = ("--batch", batch, "--workers", workers, "--max-ram", ram)
        folder = work / how.replace(", ", "-").replace(" ", "")
        outcomes.append(runner.finish(folder, how, 0, *extra))
        shutil.rmtree(folder)
        print(outcomes[-1], flush=True)
    return outcomes


def by_kills(runner: Runner, work: Path, usual_s: float) -> list[Outcome]:
    """Kill runs at random moments until there were enough kills, going on each time."""
    rng = random.Random(runner.options.seed)
    outcomes: list[Outcome] = []
    total, part = 0, 0
    folder = work / "killed"
    while total < runner.options.kills:
        if _killed(runner.start(folder), rng.uniform(0.15, 0.75) * usual_s):
            total, part = total + 1, part + 1
            print(f"killed, {total} of {runner.options.kills}", flush=True)
        if total == runner.options.kills or _is_done(folder):
            outcomes.append(runner.finish(folder, "killed and gone on", part))
            print(outcomes[-1], flush=True)
            shutil.rmtree(folder)
            part = 0
    return outcomes


def _killed(process: subprocess.Popen[bytes], after_s: float) -> bool:
    """Kill a process after some seconds; False if it ended before."""
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def _is_done(folder: Path) -> bool:
    return any(folder.glob("*/run.json"))


def format_table(outcomes: list[Outcome], head: str) -> str:
    """Format one row a run."""
    hashes = sorted({outcome.sha256 for outcome in outcomes})
    lines = [head, "", "| run | kills before | sha256 of classes.ome.tif |", "|---|---|---|"]
    lines += [f"| {o.how} | {o.kills} | {o.sha256[:16]} |" for o in outcomes]
    kills = sum(outcome.kills for outcome in outcomes)
    lines += ["", f"{len(outcomes)} runs, {kills} kills: {len(hashes)} distinct sha256."]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--batches", nargs="+", default=["1", "3", "8"])
    parser.add_argument("--workers", nargs="+", default=["1", "2", "4"])
    parser.add_argument("--max-ram", nargs="+", default=["1.5G", "4G"])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/invariance"))
    parser.add_argument("-o", "--out", type=Path, default=HERE / "results" / "invariance.json")
    parser.add_argument("--page", action="store_true", help="fill docs/benchmarks.md")
    return parser.parse_args()


def main() -> None:
    """Run, print, exit with 1 if a byte differs."""
    options = parse()
    shutil.rmtree(options.work, ignore_errors=True)
    runner = Runner(options)
    outcomes = by_settings(runner, options.work)
    usual_s = min(outcome.seconds for outcome in outcomes)
    outcomes += by_kills(runner, options.work, usual_s)
    save_record(options.out, {"slide": options.slide.name, "runs": [asdict(o) for o in outcomes]})
    head = (
        f"{machine_words()}. {options.slide.name}, {options.engine}, {options.precision}, "
        f"tile {options.tile}."
    )
    table = format_table(outcomes, head)
    print(table)
    if options.page:
        write_section("benchmarks.md", "invariance", table)
    sys.exit(len({outcome.sha256 for outcome in outcomes}) != 1)


if __name__ == "__main__":
    main()
