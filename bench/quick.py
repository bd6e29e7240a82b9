"""The regression guard: ratios in under three minutes, kept with the commit they belong to.

    python bench/quick.py                 measure, add to bench/history/, say what moved
    python bench/quick.py --page          only write the history's page again

Ratios of things that are measured in turns, seconds apart, hold on a machine that is slow today.
A ratio has moved where the intervals of two entries of the same kind of machine lie apart, by 5 %
at least; the commits between the two entries are named. An entry that a busy, hot or sleeping
machine disturbed says so and is compared with nothing.

``int8_to_fp32``     megapixels a second of the engine on tiles in memory, int8 by fp32
``whole_to_floor``   a whole slide by the slower of engine alone and decoding alone
``stitch_to_numpy``  seconds of a NumPy stand-in of joining tiles, by ours
``import_to_python`` importing the command line, by starting Python
``cold_to_numpy``    process start to first result, by starting Python with NumPy
"""

from __future__ import annotations

import argparse
import html
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measure import Who, decode_alone, engine_alone, whole_run

from cellseg.bench.meters.fingerprint import fingerprint
from cellseg.bench.meters.watch import MachineWatch, doubts
from cellseg.bench.reports.intervals import t_factor
from cellseg.bench.reports.page import document
from cellseg.bench.reports.plots import history_plot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent
ROUNDS = 4
SECONDS = 1.5
TILE_PX = 1024
MOVED = 0.05
MEANING = {
    "int8_to_fp32": "engine, int8 by fp32 (higher is better)",
    "whole_to_floor": "whole slide by its floor (higher is better, 1 is the most)",
    "stitch_to_numpy": "NumPy's joining of tiles by ours, seconds (higher is better)",
    "import_to_python": "import of the command line by a bare Python, seconds (lower is better)",
    "cold_to_numpy": "start to first result by Python with NumPy, seconds (lower is better)",
}


@dataclass(frozen=True)
class Ratio:
    """A ratio with its 95 % interval."""

    value: float
    low: float
    high: float


def ratio_of(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Return the ratio of two measurements taken in turns; Student's interval of its logarithm."""
    logs = np.log(np.divide(above, below))
    middle = float(logs.mean())
    # 1.96 standard errors, widened for the few there are; the factor counts n / (n - 1) already.
    half = 1.96 * t_factor(logs.size) * float(logs.std()) / math.sqrt(logs.size)
    return Ratio(*(math.exp(at) for at in (middle, middle - half, middle + half)))


def engines_and_slide(slide: Path) -> dict[str, Ratio]:
    """Measure fp32, int8, decoding and the whole run by turns."""
    from cellseg.runtime.engines import ENGINES
    from cellseg.runtime.jobs.options import InferOptions

    engine = next(name for name, entry in ENGINES.items() if entry.is_available())
    options = InferOptions(engine=engine, precision="int8", tile_px=TILE_PX, tissue_mask=False)
    whole_run(slide, options)  # kernels are compiled and cached
    rates: dict[str, list[float]] = {"fp32": [], "int8": [], "decode": [], "whole": []}
    for _ in range(ROUNDS):
        for precision in ("fp32", "int8"):
            who = Who("nuclei", engine, precision, TILE_PX)
            rates[precision].append(engine_alone(slide, who, SECONDS))
        rates["decode"].append(decode_alone(slide, "nuclei", 2))
        rates["whole"].append(whole_run(slide, options)[0]["throughput_mpx_s"])
    floor = np.minimum(rates["int8"], rates["decode"]).tolist()
    return {
        "int8_to_fp32": ratio_of(rates["int8"], rates["fp32"]),
        "whole_to_floor": ratio_of(rates["whole"], floor),
    }


def stitching() -> Ratio:
    """Join the tiles of a picture: crop, decide and paste, by our kernels and in plain NumPy."""
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.bundles.decide import ClassRule

    card = Bundle.open("nuclei").manifest
    rule = ClassRule.of(card)
    rng = np.random.default_rng(0)
    tile = rng.random((TILE_PX, TILE_PX, len(card.channels)), np.float32)
    halo, core = card.halo_px, TILE_PX - 2 * card.halo_px
    threshold = card.threshold or 0.5
    background = [i for i, item in enumerate(card.channels) if item.class_index == 0]

    def ours() -> Any:
        return rule.classes(tile, (halo, halo), (core, core))

    def numpy() -> Any:
        kept = tile[halo : halo + core, halo : halo + core]
        sure = 1 - kept[..., background].sum(-1) / kept.sum(-1)
        return (sure >= threshold).astype(np.uint8)

    ours()
    both = [(seconds_of(numpy), seconds_of(ours)) for _ in range(3 * ROUNDS)]
    return ratio_of(*zip(*both, strict=True))


def starting() -> dict[str, Ratio]:
    """Start processes: bare, with NumPy, with the command line, up to a first result."""
    programs = {
        "bare": "pass",
        "numpy": "import numpy",
        "import": "import cellseg.cli",
        "cold": "import numpy, cellseg\n"
        f"with cellseg.Segmenter.load('nuclei', tile_px={TILE_PX}) as s:\n"
        f"    s(numpy.zeros(({TILE_PX}, {TILE_PX}, 3), 'uint8'))",
    }
    run_python(programs["cold"])
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS + 2):
        for name, code in programs.items():
            times[name].append(run_python(code))
    return {
        "import_to_python": ratio_of(times["import"], times["bare"]),
        "cold_to_numpy": ratio_of(times["cold"], times["numpy"]),
    }


def seconds_of(work: Callable[[], Any]) -> float:
    """Return the seconds of one call, the mean over a tenth of a second."""
    started, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - started < 0.1:
        work()
        count += 1
    return (time.perf_counter() - started) / count


def run_python(code: str) -> float:
    """Return the seconds of a Python process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - started


def measure() -> dict[str, Any]:
    """Return a new entry of the history."""
    from cellseg.bench.rounds.tiles import made_slide

    machine, watch = fingerprint(), MachineWatch()
    with tempfile.TemporaryDirectory() as folder:
        ratios = engines_and_slide(made_slide(Path(folder)))
    ratios |= {"stitch_to_numpy": stitching()} | starting()
    disturbed = doubts([watch.state()], [])
    return {
        "commit": machine["git_commit"],
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{machine['cpu']} ({' '.join(machine['cpu_flags'] or ())}) x{machine['cores']}",
        "load_before": machine["load_before"],
        "disturbed": disturbed,
        "libraries": machine["libraries"],
        "ratios": {name: asdict(ratio) for name, ratio in ratios.items()},
    }


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return all entries, the oldest first."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def is_quiet(entry: dict[str, Any]) -> bool:
    """Tell whether an entry can be compared."""
    return not entry.get("disturbed")


def moves(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Say which ratio moved between which commits, for each entry and the one before it."""
    found = []
    latest: dict[str, dict[str, Any]] = {}
    for entry in filter(is_quiet, entries):
        before = latest.get(entry["machine"])
        if before is not None:
            found += _moves_between(before, entry)
        latest[entry["machine"]] = entry
    return found


def _moves_between(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found = []
    for name, new in after["ratios"].items():
        old = before["ratios"].get(name)
        if old is None:
            continue
        change = new["value"] / old["value"] - 1
        if (new["low"] > old["high"] or new["high"] < old["low"]) and abs(change) >= MOVED:
            commits = _commits(before["commit"], after["commit"])
            found.append(
                f"{name} moved by {change:+.0%} ({old['value']:.2f} to {new['value']:.2f}): "
                f"{commits}"
            )
    return found


def _commits(before: str | None, after: str | None) -> str:
    """Name the commits after one entry's and up to the other's."""
    if before is None or after is None:
        return "commits not known"
    if before == after:
        return f"no commit between, both {after[:10]}: the machine or its libraries"
    ends = [commit.partition("+")[0] for commit in (before, after)]
    command = ["git", "-C", str(HERE), "log", "--oneline", "--no-merges", "..".join(ends)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = answer.stdout.strip().splitlines()
    uncommitted = " and changes that are not committed" if "+" in after else ""
    if not lines:
        return f"{ends[1][:10]}{uncommitted}"
    more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
    return "; ".join(lines[:5]) + more + uncommitted


def said_of_last(entries: Sequence[dict[str, Any]]) -> str:
    """Say what the last entry moved, or why it cannot tell."""
    last = entries[-1]
    if not is_quiet(last):
        return f"disturbed, measure again: {'; '.join(last['disturbed'])}"
    same = [e for e in entries if e["machine"] == last["machine"] and is_quiet(e)]
    return "\n".join(moves(same[-2:])) or "nothing moved"


def write_pages(entries: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the history as Markdown and as a page with plots."""
    moved = moves(entries)
    machines = list(dict.fromkeys(entry["machine"] for entry in entries))
    heads = ["date", "commit", "machine", *MEANING]
    lines = ["# History of ratios", "", "Made by `make bench-quick` (`bench/quick.py`).", ""]
    lines += [f"- `{name}`: {words}" for name, words in MEANING.items()]
    lines += ["", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for entry in entries:
        cells = [_words(entry["ratios"].get(name)) for name in MEANING]
        doubt = "" if is_quiet(entry) else f" (disturbed: {'; '.join(entry['disturbed'])})"
        head = [entry["date"][:10], (entry["commit"] or "")[:10], entry["machine"] + doubt]
        lines.append(f"| {' | '.join([*head, *cells])} |")
    lines += ["", "## What moved", "", *([f"- {text}" for text in moved] or ["Nothing."])]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    body = ["<h1>History of ratios</h1>", _moved_box(moved, len(entries))]
    for name, words in MEANING.items():
        series = {m: [_point(e, name, m) for e in entries] for m in machines}
        body.append(f"<h2>{name}</h2><p class='note'>{words}</p>{history_plot(series)}")
    page = document("cellseg: history of ratios", "\n".join(body))
    (folder / "index.html").write_text(page, encoding="utf-8")


def _moved_box(moved: Sequence[str], count: int) -> str:
    """Say first what moved, for that is what the page is opened for."""
    if not moved:
        return f"<div class='verdict'><b>Nothing moved</b> over {count} measurements.</div>"
    items = "".join(f"<li>{html.escape(text)}</li>" for text in moved)
    return f"<div class='verdict bad'><b>What moved</b><ul>{items}</ul></div>"


def _point(entry: dict[str, Any], name: str, machine: str) -> tuple[str, float, float, float]:
    label = f"{(entry['commit'] or '?')[:7]} {entry['date'][:10]}"
    found = entry["ratios"].get(name)
    if found is None or entry["machine"] != machine or not is_quiet(entry):
        return label, math.nan, math.nan, math.nan
    return label, found["value"], found["low"], found["high"]


def _words(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio['value']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})"


def main() -> None:
    """Measure, keep, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="only write the page again")
    parser.add_argument("--history", type=Path, default=HERE / "history" / "quick.jsonl")
    options = parser.parse_args()
    options.history.parent.mkdir(parents=True, exist_ok=True)
    entries = read_history(options.history)
    if not options.page:
        started_s = time.perf_counter()
        entries.append(measure())
        with options.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entries[-1]) + "\n")
        for name, ratio in entries[-1]["ratios"].items():
            print(f"{name:18} {_words(ratio):32} {MEANING[name]}")
        print(said_of_last(entries))
        print(f"measured in {time.perf_counter() - started_s:.0f} s", file=sys.stderr)
    write_pages(entries, options.history.parent)


if __name__ == "__main__":
    main()
