"""A number that the project set out to reach, and how its measurement is found.

What was measured lies in ``bench/results/*.json``, where the scripts leave it, and in what the
shipped bundles state.
"""

from __future__ import annotations

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
        _READ.clear()
        found = self.measured()
        processors = ", ".join(sorted({_processor(name) for name in _READ}))
        how = f"`{self.how}`"
        if found is None:
            return self.group, self.what, self.wanted, "not measured", "", "", how
        met = "yes" if self.is_met(found) else "**no**"
        return self.group, self.what, self.wanted, self.words(found), met, processors, how


_READ: set[str] = set()
"""Records that were read for the line that is made."""


def record(name: str) -> Any:
    """Return a file of bench/results/."""
    found = load(name)
    _READ.add(name)
    return found


@lru_cache
def load(name: str) -> Any:
    """Read a file of bench/results/, once."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _processor(name: str) -> str:
    """Say in a word or two on what a record was measured; nothing where that does not matter."""
    machine = load(name).get("machine")
    if not isinstance(machine, dict):
        return ""
    return "Xeon" if "Xeon" in machine["cpu"] else str(machine["cpu"]).removeprefix("AMD ")


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
