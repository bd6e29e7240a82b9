"""Every number that the project set out to reach, beside what was measured.

    python bench/bars.py            print the table
    python bench/bars.py --page     put it into docs/benchmarks.md

Nothing is measured here: the values are read from ``bench/results/*.json``, where the scripts of
the last column leave them, and from what the shipped bundles state. What has no value there is
"not measured". ``bench/bar_list.py`` says which value each bar is held against.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
HEADS = ("of", "what", "wanted", "measured", "met", "how")


@dataclass(frozen=True)
class Bar:
    """A number to reach, and where it is found."""

    group: str
    """Subject."""

    what: str

    read: Callable[[], float]
    """Raises LookupError, OSError, TypeError or ValueError where it was not measured."""

    how: str
    """Script of bench/ with its words, or the command, that measures it."""

    least: float | None = None
    """The bar is a lower limit."""

    most: float | None = None
    """The bar is an upper limit."""

    form: str = "{:.2f}"
    """Of both numbers, unit included."""

    yes: bool = False
    """The bar is a yes: the value must not be 0."""

    note: Callable[[], str] | None = None
    """What else must be known of the measurement."""

    @property
    def wanted(self) -> str:
        """The limit in words."""
        if self.yes:
            return "yes"
        sign, limit = ("≥", self.least) if self.least is not None else ("≤", self.most)
        return f"{sign} {self.form.format(limit)}"

    def measured(self) -> float | None:
        """Return the value; None where there is none yet."""
        try:
            return self.read()
        except (LookupError, OSError, TypeError, ValueError):
            return None

    def is_met(self, found: float) -> bool:
        """Tell whether a value reaches the bar."""
        if self.yes:
            return bool(found)
        above = self.least is None or found >= self.least
        return above and (self.most is None or found <= self.most)

    def words(self, found: float) -> str:
        """Return a value as the table shows it."""
        shown = ("yes" if found else "no") if self.yes else self.form.format(found)
        return f"{shown} ({self.note()})" if self.note else shown

    def line(self) -> tuple[str, ...]:
        """Return its line of the table."""
        found = self.measured()
        how = f"`{self.how}`"
        if found is None:
            return self.group, self.what, self.wanted, "not measured", "", how
        met = "yes" if self.is_met(found) else "**no**"
        return self.group, self.what, self.wanted, self.words(found), met, how


@lru_cache
def record(name: str) -> Any:
    """Return a file of bench/results/."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def value(name: str, *keys: str | int) -> Callable[[], float]:
    """Read a number by its keys; the median where a list of rounds stands there."""

    def read() -> float:
        found = record(name)
        for key in keys:
            found = found[key]
        return float(statistics.median(found) if isinstance(found, list) else found)

    return read


def ratio(above: Callable[[], float], below: Callable[[], float]) -> Callable[[], float]:
    """Divide one number by another."""
    return lambda: above() / below()


def either(*reads: Callable[[], float]) -> Callable[[], float]:
    """Read the first number that is there: a script's newer figure before its older one."""

    def read() -> float:
        for each in reads[:-1]:
            with contextlib.suppress(LookupError):
                return each()
        return reads[-1]()

    return read


def off_one(read: Callable[[], float]) -> Callable[[], float]:
    """Say how far a ratio is from 1."""
    return lambda: abs(read() - 1)


def table_of_bars() -> str:
    """Return the Markdown table with a line that counts."""
    from bar_list import BARS

    from cellseg.bench.markdown import table

    found = [(bar, bar.measured()) for bar in BARS]
    met = sum(number is not None and bar.is_met(number) for bar, number in found)
    absent = sum(number is None for _, number in found)
    count = f"{met} of {len(BARS)} met, {len(BARS) - met - absent} not met, {absent} not measured."
    return f"{count}\n\n{table(HEADS, [bar.line() for bar in BARS])}"


def main() -> None:
    """Print, and write where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="fill docs/benchmarks.md")
    options = parser.parse_args()
    table = table_of_bars()
    print(table)
    if options.page:
        from pages import write_section

        write_section("benchmarks.md", "bars", table)


if __name__ == "__main__":
    main()
