"""Holds two reports against each other, row by row, with the noise that both have."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.bench.meters.fingerprint import same_machine
from cellseg.bench.reports.intervals import draw_percentiles, percentile_samples, t_factor
from cellseg.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cellseg.bench.record import Report, Row
    from cellseg.bench.reports.condition import Condition

__all__ = ["Change", "Comparison", "compare_reports"]

_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0}

_SAMPLES_HINT = "p90 takes 29 samples and p99 takes 299: measure with --min-samples 299."
_SETS_HINT = "Score both on the same images: --accuracy-set NAME=FOLDER."
_UNCOVERED_HINTS = dict.fromkeys(_PERCENTILES, _SAMPLES_HINT) | {
    "dice": _SETS_HINT,
    "f1": _SETS_HINT,
    "misses": "Frames are missed in the scenario stream.",
}


@dataclass(frozen=True)
class Change:
    """One metric of one contestant, before and after."""

    key: str
    scenario: str
    metric: str
    before: float
    after: float
    low: float | None = None
    """95 % interval of ``after / before``; None where no noise is known."""
    high: float | None = None
    of: str | None = None
    """What was scored: of all sets and classes the one that lost most; None for other metrics."""

    @property
    def words(self) -> str:
        """The metric, with what was scored."""
        return self.metric if self.of is None else f"{self.metric} of {self.of}"

    @property
    def ratio(self) -> float | None:
        """``after / before``; None from nothing."""
        return self.after / self.before if self.before else None

    def fails(self, condition: Condition) -> bool:
        """Tell whether a condition is met; one of another metric or scenario is not."""
        if condition.metric != self.metric or condition.scenario not in (None, self.scenario):
            return False
        low = None if self.low is None else self.low - 1
        high = None if self.high is None else self.high - 1
        if not condition.is_relative:
            return condition.is_met(self.after - self.before, low, high)
        if self.ratio is None:  # from nothing, any growth is past any share
            return condition.is_upper and self.after > 0
        return condition.is_met(self.ratio - 1, low, high)


@dataclass
class Comparison:
    """All changes, and what cannot be compared."""

    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Contestants that ran before and do not any more."""
    machine_differences: list[str] = field(default_factory=list)

    def regressions(self, conditions: Sequence[Condition]) -> list[tuple[Change, Condition]]:
        """Return the changes that a condition is met by."""
        return [
            (c, condition) for condition in conditions for c in self.changes if c.fails(condition)
        ]

    def as_dict(self, regressions: Sequence[tuple[Change, Condition]]) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "changes": [asdict(change) | {"ratio": change.ratio} for change in self.changes],
            "warnings": self.warnings,
            "failed": self.failed,
            "regressions": [
                {"key": change.key, "metric": change.metric, "condition": condition.text}
                for change, condition in regressions
            ],
        }

    def check_machine(self, is_accepted: bool) -> None:
        """Refuse to judge one machine's numbers by another's, unless that is wanted.

        Raises
        ------
        BenchError
            If the machines differ.
        """
        if self.machine_differences and not is_accepted:
            raise BenchError(
                "Conditions hold on one machine. Received: reports of two "
                f"({'; '.join(self.machine_differences)}).",
                hint="Measure both on one machine, or accept that with --other-machine.",
            )

    def check_covered(self, conditions: Sequence[Condition]) -> None:
        """Refuse a condition that no row could be held against: silence is no pass.

        Raises
        ------
        BenchError
            If there is one.
        """
        known = {(c.metric, scenario) for c in self.changes for scenario in (None, c.scenario)}
        for condition in conditions:
            if (condition.metric, condition.scenario) not in known:
                raise BenchError(
                    "Each condition must have a row in both reports to be held against. "
                    f"Received: none for {condition.text}.",
                    hint=_UNCOVERED_HINTS.get(condition.metric),
                )


def compare_reports(before: Report, after: Report) -> Comparison:
    """Compare the contestants that both reports have."""
    found = Comparison(machine_differences=same_machine(before.machine, after.machine))
    found.warnings += [f"another machine: {text}" for text in found.machine_differences]
    found.warnings += _differences(before, after)
    earlier = {row.key: row for row in before.rows}
    later = {row.key: row for row in after.rows}
    for key, row in earlier.items():
        other = later.get(key)
        if other is None:
            found.warnings.append(f"{key}: not in the second report")
        elif not row.rounds:
            continue
        elif not other.rounds and other.status == "interrupted":
            found.warnings.append(f"{key}: not reached, the second run was interrupted")
        elif not other.rounds or other.status == "failed":
            found.failed.append(f"{key}: {other.failure or other.status}")
        else:
            found.changes += _changes(row, other)
    found.warnings += [f"{key}: only in the second report" for key in later if key not in earlier]
    return found


def _differences(before: Report, after: Report) -> Iterator[str]:
    for name, model in before.models.items():
        other = after.models.get(name)
        if other is not None and other.sha256 != model.sha256:
            yield f"another model: {name} {model.sha256[:12]} and {other.sha256[:12]}"
    for which, report in (("first", before), ("second", after)):
        if not report.valid:
            yield f"the {which} report is marked invalid: {'; '.join(report.invalid_reasons[:3])}"
        if report.status != "done":
            yield f"the {which} report is of a run that was interrupted"
    for key in ("governor", "power_mode", "on_battery"):
        if before.machine.get(key) != after.machine.get(key):
            yield f"another {key}: {before.machine.get(key)} and {after.machine.get(key)}"
    if before.settings.get("slide") != after.settings.get("slide"):
        yield f"another slide: {before.settings.get('slide')} and {after.settings.get('slide')}"
    scored = [
        {it.dataset for row in report.rows for it in row.accuracy} for report in (before, after)
    ]
    for which, alone in (("first", scored[0] - scored[1]), ("second", scored[1] - scored[0])):
        yield from (f"accuracy on {name}: only in the {which} report" for name in sorted(alone))


def _changes(before: Row, after: Row) -> Iterator[Change]:
    who: dict[str, Any] = {"key": before.key, "scenario": before.contestant.scenario}
    for metric, percentile in _PERCENTILES.items():
        yield from _latency_change(before, after, metric, percentile, who)
    if before.throughput_mpx_s and after.throughput_mpx_s:
        one, other = before.throughput_mpx_s, after.throughput_mpx_s
        ends: dict[str, Any] = _ratio_of_intervals(one, other)
        yield Change(**who, metric="throughput", before=one.value, after=other.value, **ends)
    if before.stream and after.stream:
        one, other = before.stream.miss_rate, after.stream.miss_rate
        ends = _ratio_of_intervals(one, other) if one.value else {}
        yield Change(**who, metric="misses", before=one.value, after=other.value, **ends)
    for metric, read in _PLAIN.items():
        earlier, later = read(before), read(after)
        if earlier is not None and later is not None:
            yield Change(**who, metric=metric, before=earlier, after=later)
    for metric, scores in _SCORES.items():
        yield from _score_change(scores(before), scores(after), metric, who)


def _latency_change(
    before: Row, after: Row, metric: str, percentile: float, who: dict[str, Any]
) -> Iterator[Change]:
    sides = []
    for row in (before, after):
        rounds = [np.asarray(r.samples_ms) for r in row.rounds if r.samples_ms]
        if sum(samples.size for samples in rounds) < percentile_samples(percentile):
            return
        sides.append(rounds)

    values = [float(np.percentile(np.concatenate(rounds), percentile)) for rounds in sides]
    # The logarithm of a ratio is a difference: each side is widened for its own few rounds.
    off = [
        t_factor(len(rounds)) * np.log(draw_percentiles(rounds, percentile, seed) / value)
        for seed, (rounds, value) in enumerate(zip(sides, values, strict=True))
    ]
    ratio = values[1] / values[0]
    low, high = (float(ratio * np.exp(x)) for x in np.quantile(off[1] - off[0], (0.025, 0.975)))
    yield Change(**who, metric=metric, before=values[0], after=values[1], low=low, high=high)


def _ratio_of_intervals(before: Any, after: Any) -> dict[str, float]:
    """Return the interval of a ratio of independent numbers with intervals (delta method)."""
    if None in (before.low, after.low) or not before.value or not after.value:
        return {}
    parts = [(e.high - e.low) / 2 / e.value for e in (before, after)]
    half = float(np.hypot(*parts))
    ratio = after.value / before.value
    return {"low": ratio * np.exp(-half), "high": ratio * np.exp(half)}


def _score_change(
    before: dict[str, float], after: dict[str, float], metric: str, who: dict[str, Any]
) -> Iterator[Change]:
    """Compare what both reports scored, and tell of what lost most.

    The worst score of each report would hide a loss wherever another set is worse anyway, and
    take a set that only one report has for a change.
    """
    lost = {name: after[name] - before[name] for name in before if name in after}
    if lost:
        of = min(lost, key=lambda name: (lost[name], before[name]))
        yield Change(**who, metric=metric, before=before[of], after=after[of], of=of)


def _dice(row: Row) -> dict[str, float]:
    return {f"{it.dataset} {name}": dice for it in row.accuracy for name, dice in it.dice.items()}


def _f1(row: Row) -> dict[str, float]:
    return {it.dataset: it.object_f1 for it in row.accuracy if it.object_f1 is not None}


_PLAIN: dict[str, Callable[[Row], float | None]] = {
    "rss": lambda row: row.peak_rss_mb,
    "energy": lambda row: None if row.energy is None else row.energy.joule_per_mpx,
}
_SCORES: dict[str, Callable[[Row], dict[str, float]]] = {"dice": _dice, "f1": _f1}
