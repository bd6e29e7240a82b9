"""Run one matrix several times and show that the runs agree within the intervals they print.

    python bench/agreement.py --page                     # five minutes on a quiet machine
    python bench/agreement.py -- --engine openvino --tile 512 --scenario tile-single

What stands behind ``--`` goes to ``cellseg-cli bench``. Two runs agree on a number if their 95 %
intervals overlap. Exit code 1 if more than one pair in twenty does not, or if a run is invalid:
what disturbs a machine moves a whole run, and no interval knows of that.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contest import save_record, words_of_machine
from pages import write_section

from cellseg.bench.record import Estimate, Report, load_report
from cellseg.bench.reports.markdown import spread_words, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cellseg.bench.record import Row

MOST_APART = 0.05
RESULTS = Path(__file__).parent / "results" / "agreement.json"
MATRIX = (
    "--engine openvino --precision fp32,int8 --tile 1024 "
    "--scenario tile-single,tile-offline --rounds 5 --min-duration 8 --no-roofline"
)


@dataclass(frozen=True)
class Line:
    """One number of one contestant, as each run has it."""

    contestant: str
    number: str
    runs: tuple[Estimate, ...]

    @property
    def pairs(self) -> int:
        """Pairs of runs."""
        return len(self.runs) * (len(self.runs) - 1) // 2

    @property
    def apart(self) -> int:
        """Pairs of runs whose intervals do not overlap."""
        return sum(not overlap(one, other) for one, other in combinations(self.runs, 2))

    def words(self) -> list[str]:
        """Return the line of the table."""
        verdict = f"{self.apart} of {self.pairs} pairs apart" if self.apart else "agree"
        return [self.contestant, self.number, *map(spread_words, self.runs), verdict]


def overlap(one: Estimate, other: Estimate) -> bool:
    """Tell whether two intervals have a point in common; a number without one agrees with none."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high


def numbers(row: Row) -> Iterator[tuple[str, Estimate]]:
    """Yield what a row states with an interval."""
    for name in ("p50", "p90", "p99"):
        found = row.percentile(name)
        if found is not None:
            yield f"{name}, ms", found
    if row.throughput_mpx_s is not None:
        yield "MP/s", row.throughput_mpx_s


def lines_of(reports: Sequence[Report]) -> list[Line]:
    """Return a line for each number that every run states."""
    found = []
    for rows in zip(*(report.rows for report in reports), strict=True):
        each = [dict(numbers(row)) for row in rows]
        found += [
            Line(rows[0].key, name, tuple(known[name] for known in each))
            for name in each[0]
            if all(name in known for known in each)
        ]
    return found


def run(words: Sequence[str]) -> Report:
    """Run the command once."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cellseg", "bench", *words, "-o", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return load_report(Path(folder))


def record_of(reports: Sequence[Report], words: Sequence[str]) -> dict[str, Any]:
    """Return what is kept: each number of each run, how many pairs lie apart, what was invalid."""
    lines = lines_of(reports)
    return {
        "words": list(words),
        "runs": len(reports),
        "wall_s": [report.wall_s for report in reports],
        "pairs": sum(line.pairs for line in lines),
        "apart": sum(line.apart for line in lines),
        "invalid": [reason for report in reports for reason in report.invalid_reasons],
        "lines": [
            {"contestant": line.contestant, "number": line.number,
             "runs": [estimate.model_dump() for estimate in line.runs]}
            for line in lines
        ],
    }  # fmt: skip


def page(record: dict[str, Any]) -> str:
    """Return the table with its verdict, from what is kept."""
    lines = [
        Line(
            line["contestant"],
            line["number"],
            tuple(Estimate.model_validate(item) for item in line["runs"]),
        )
        for line in record["lines"]
    ]
    heads = ["contestant", "number", *(f"run {i + 1}" for i in range(record["runs"])), ""]
    seconds = sum(record["wall_s"])
    command = f"cellseg-cli bench {shlex.join(record['words'])}"
    parts = [
        f"{words_of_machine(record['machine'])}. `{command}`, {record['runs']} runs in "
        f"{seconds / 60:.1f} minutes.",
        f"{record['apart']} of {record['pairs']} pairs lie apart (at most {MOST_APART:.0%} may).",
        table(heads, [line.words() for line in lines]),
    ]
    if record["invalid"]:
        reasons = "\n".join(f"- {reason}" for reason in record["invalid"])
        parts.insert(2, f"Not valid, the machine was disturbed:\n\n{reasons}")
    return "\n\n".join(parts)


def main() -> None:
    """Run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="fill docs/benchmarks.md")
    parser.add_argument("words", nargs="*", help=f"for cellseg-cli bench; {MATRIX} by default")
    options = parser.parse_args()
    words = options.words or shlex.split(MATRIX)
    save_record(options.out, record_of([run(words) for _ in range(options.runs)], words))
    record = json.loads(options.out.read_text(encoding="utf-8"))
    print(page(record))
    if options.page:
        write_section("benchmarks.md", "agreement", page(record))
    if record["invalid"] or record["apart"] > MOST_APART * record["pairs"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
