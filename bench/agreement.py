"""Run one matrix several times and show that the runs agree within the intervals they print.

    python bench/agreement.py -o bench/results/agreement.json -- --engine openvino --tile 1024

What stands behind ``--`` goes to ``cellseg-cli bench``. Two runs agree on a number if their
intervals overlap. Of 95 % intervals about one pair in a hundred should not; the share that does not
is printed. Exit code 1 if it is above one in twenty, or if a run is invalid.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from contest import machine_words, save_record
from pages import write_section

from cellseg.bench.markdown import spread_words, table
from cellseg.bench.record import Report, load_report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellseg.bench.record import Estimate, Row

MOST_APART = 0.05


def numbers(row: Row) -> Iterator[tuple[str, Estimate]]:
    """Yield what a row states with an interval."""
    for name in ("p50", "p90", "p99"):
        found = row.percentile(name)
        if found is not None:
            yield name, found
    if row.throughput_mpx_s is not None:
        yield "throughput", row.throughput_mpx_s


def overlap(one: Estimate, other: Estimate) -> bool:
    """Tell whether two intervals have a point in common."""
    ends = (one.low, one.high, other.low, other.high)
    if any(end is None for end in ends):
        return False
    return one.low <= other.high and other.low <= one.high  # type: ignore[operator]


def run(words: list[str]) -> Report:
    """Run the command once."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cellseg", "bench", *words, "-o", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return load_report(Path(folder))


def compare(reports: list[Report]) -> tuple[list[list[str]], int, int]:
    """Return a line a number, how many pairs there are, and how many lie apart."""
    lines, pairs, apart = [], 0, 0
    for rows in zip(*(report.rows for report in reports), strict=True):
        each = [dict(numbers(row)) for row in rows]
        for name in each[0]:
            found = [numbers_of[name] for numbers_of in each if name in numbers_of]
            missed = sum(not overlap(a, b) for a, b in combinations(found, 2))
            pairs += len(found) * (len(found) - 1) // 2
            apart += missed
            words = "agree" if not missed else f"{missed} pairs apart"
            lines.append([rows[0].key, name, *map(spread_words, found), words])
    return lines, pairs, apart


def main() -> None:
    """Run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path, default=Path("bench/results/agreement.json"))
    parser.add_argument("--page", action="store_true", help="fill docs/benchmarks.md")
    parser.add_argument("words", nargs="*", help="options of cellseg-cli bench")
    options = parser.parse_args()
    reports = [run(options.words) for _ in range(options.runs)]
    lines, pairs, apart = compare(reports)
    heads = ["contestant", "number", *(f"run {i + 1}" for i in range(options.runs)), ""]
    invalid = [r.invalid_reasons[:1] for r in reports if not r.valid]
    text = f"{machine_words()}.\n\n{table(heads, lines)}\n\n{apart} of {pairs} pairs apart"
    print(text + "".join(f"\ninvalid: {reason}" for reason in invalid))
    if options.page:
        write_section("benchmarks.md", "agreement", text)
    facts = {"runs": options.runs, "words": options.words, "pairs": pairs, "apart": apart}
    save_record(options.out, {**facts, "invalid": invalid, "lines": lines})
    if invalid or apart > MOST_APART * pairs:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
