"""Conditions of ``bench compare --fail-if``: a small grammar of its own.

::

    condition = [scenario ":"] metric (">" | "<") ("+" | "-") number ["%"] ["!"]

``p99>+5%`` fails if p99 grew by more than 5 % *and* the intervals of both reports say that it grew
at all; ``p99>+5%!`` fails on the number alone. ``slide:throughput<-3%`` looks at slides only,
``dice<-0.005`` at the difference itself. Several are parted by commas.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.bench.options import SCENARIO_NAMES
from cellseg.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["METRICS", "Condition", "parse_conditions"]

METRICS = {
    "p50": "median latency",
    "p90": "90th percentile of latency",
    "p99": "99th percentile of latency",
    "throughput": "megapixels a second",
    "rss": "peak resident memory",
    "energy": "joules a megapixel",
    "misses": "share of frames missed",
    "dice": "Dice, of the class and set that lost most",
    "f1": "object F1, of the set that lost most",
}
_FORM = re.compile(
    r"(?:(?P<scenario>[a-z-]+):)?(?P<metric>[a-z0-9]+)(?P<side>[<>])"
    r"(?P<limit>[+-][0-9]*\.?[0-9]+)(?P<percent>%?)(?P<strict>!?)"
)


@dataclass(frozen=True)
class Condition:
    """One condition under which a comparison fails."""

    text: str
    metric: str
    is_upper: bool
    """Whether it fails above the limit, not below."""
    limit: float
    """Relative change where `is_relative`, else difference."""
    is_relative: bool
    is_strict: bool
    """Whether a change within the noise fails, too."""
    scenario: str | None = None

    def is_met(self, change: float, low: float | None, high: float | None) -> bool:
        """Tell whether a change fails.

        Parameters
        ----------
        change : float
            Relative or absolute, as the condition has it.
        low, high : float or None
            Interval of the change; None: it has no noise that is known.
        """
        past = change > self.limit if self.is_upper else change < self.limit
        if not past or self.is_strict or low is None or high is None:
            return past
        # Noise is what reaches no change at all, or the limit where less of a gain is meant.
        return low > min(0.0, self.limit) if self.is_upper else high < max(0.0, self.limit)


def parse_conditions(texts: Sequence[str]) -> list[Condition]:
    """Read conditions; each text may hold several, parted by commas.

    Raises
    ------
    BenchError
        If one does not follow the grammar.

    Examples
    --------
    >>> [c.limit for c in parse_conditions(["p99>+5%", "dice<-0.01,slide:rss>+10%"])]
    [0.05, -0.01, 0.1]
    """
    parts = [part.strip() for text in texts for part in text.split(",")]
    if texts and not any(parts):
        raise BenchError(
            "A condition says what may not happen. Received: an empty one.",
            hint="Is a variable of the script unset? Such as: --fail-if 'p99>+5%'.",
        )
    return [_parse(part) for part in parts if part]


def _parse(text: str) -> Condition:
    found = _FORM.fullmatch(text.replace(" ", ""))
    if found is None:
        raise BenchError(
            f"A condition looks like p99>+5% or slide:throughput<-3%. Received: {text!r}.",
            hint=f"Metrics: {', '.join(METRICS)}. A ! behind it counts noise, too.",
        )
    if found["metric"] not in METRICS:
        raise BenchError(f"Metrics are {', '.join(METRICS)}. Received: {found['metric']!r}.")
    if found["scenario"] not in (None, *SCENARIO_NAMES):
        raise BenchError(
            f"Scenarios are {', '.join(SCENARIO_NAMES)}. Received: {found['scenario']!r}."
        )
    percent = bool(found["percent"])
    return Condition(
        text=text,
        metric=found["metric"],
        is_upper=found["side"] == ">",
        limit=float(found["limit"]) / (100 if percent else 1),
        is_relative=percent,
        is_strict=bool(found["strict"]),
        scenario=found["scenario"],
    )
