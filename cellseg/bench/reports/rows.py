"""From raw rounds to a row of the report."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from cellseg.bench.meters.watch import doubts, drift
from cellseg.bench.record import Energy, Roofline, Row, Stream
from cellseg.bench.reports.intervals import latency, rate, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellseg.bench.record import Accuracy, Contestant, Peak, Round

__all__ = ["Basis", "doubts_of_run", "make_row"]


@dataclass(frozen=True)
class Basis:
    """What a row needs besides its rounds."""

    gflop_per_mpx: float | None
    peak: Peak | None
    idle_w: dict[str, float]
    accuracy: tuple[Accuracy, ...]


def make_row(who: Contestant, status: Any, rounds: Sequence[Round], basis: Basis) -> Row:
    """Summarize the rounds of a contestant; without any, only its name and status are known."""
    reasons = doubts([item.state for item in rounds], _medians(rounds))
    facts = _measured(who, rounds, basis) if rounds else {}
    return Row(
        key=who.key,
        contestant=who,
        status=status,
        valid=not reasons,
        invalid_reasons=tuple(reasons),
        accuracy=basis.accuracy,
        rounds=tuple(rounds),
        **facts,
    )


def doubts_of_run(rows: Sequence[Row]) -> list[str]:
    """Say why a whole run is invalid: what befell its rows, and a drift that all of them share."""
    found = [f"{row.key}: {reason}" for row in rows for reason in row.invalid_reasons]
    measured = [row for row in rows if len(row.rounds) > 1]
    turns = min((len(row.rounds) for row in measured), default=0)
    together = []
    for turn in range(turns):
        each = [_medians(row.rounds)[turn] / median(_medians(row.rounds)) for row in measured]
        together.append(median(each))
    moved = drift(together) if len(measured) > 1 else None
    if moved is not None:
        found.insert(0, f"all contestants drifted together by {moved:+.0%}")
    return found


def _measured(who: Contestant, rounds: Sequence[Round], basis: Basis) -> dict[str, Any]:
    seconds = [_work_seconds(who, item) for item in rounds]
    kept_mpx = [item.kept_px / 1e6 for item in rounds]
    throughput = rate(kept_mpx, seconds)
    area = None if rounds[0].mpp is None else rounds[0].mpp ** 2  # mm² a megapixel
    return {
        "latency_ms": latency([item.samples_ms for item in rounds]),
        "throughput_mpx_s": None if who.scenario in ("stream", "cold") else throughput,
        "mm2_per_s": None if area is None or who.scenario in ("stream", "cold")
        else throughput.value * area,
        "peak_rss_mb": _largest([item.peak_rss_mb for item in rounds]),
        "device_memory_mb": _largest([item.device_memory_mb for item in rounds]),
        "energy": _energy(rounds, basis.idle_w, area),
        "roofline": _roofline(rounds, sum(seconds), basis),
        "stages_s": _median_parts(rounds),
        "stream": _stream(rounds),
    }  # fmt: skip


def _work_seconds(who: Contestant, item: Round) -> float:
    """Seconds that count: those of the queries, where they come one after the other."""
    if who.scenario in ("tile-single", "slide", "cold"):
        return sum(item.samples_ms) / 1e3
    return item.seconds


def _medians(rounds: Sequence[Round]) -> list[float]:
    return [median(item.samples_ms) for item in rounds if item.samples_ms]


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _energy(rounds: Sequence[Round], idle_w: dict[str, float], mm2_per_mpx: float | None) -> Any:
    """Sum up the meters; None where there is none, or it missed a round."""
    names = set.intersection(*(set(item.joule) for item in rounds))
    if not names:
        return None
    seconds = sum(item.seconds for item in rounds)
    joule = sum(item.joule[name] for item in rounds for name in names)
    mpx = sum(item.kept_px for item in rounds) / 1e6
    idle = [idle_w[name] for name in names if name in idle_w]
    return Energy(
        source="+".join(sorted(names)),
        joule=joule,
        watt=joule / seconds,
        joule_net=joule - sum(idle) * seconds if len(idle) == len(names) else None,
        joule_per_mpx=joule / mpx,
        joule_per_mm2=None if mm2_per_mpx is None else joule / (mpx * mm2_per_mpx),
    )


def _roofline(rounds: Sequence[Round], seconds: float, basis: Basis) -> Roofline | None:
    computed_mpx = sum(item.computed_px for item in rounds) / 1e6
    is_engine_alone = rounds[0].stream is None and "imports" not in rounds[0].parts_s
    if basis.gflop_per_mpx is None or not computed_mpx or not is_engine_alone:
        return None
    gflop_s = basis.gflop_per_mpx * computed_mpx / seconds
    on_cpu = rounds[0].device in (None, "cpu")  # the matrix products were the processor's
    peak = basis.peak.gflop_s if basis.peak is not None and on_cpu else None
    return Roofline(
        gflop_per_mpx=basis.gflop_per_mpx,
        gflop_s=gflop_s,
        peak_gflop_s=peak,
        of_peak=None if peak is None else gflop_s / peak,
    )


def _median_parts(rounds: Sequence[Round]) -> dict[str, float]:
    names = rounds[0].parts_s
    return {n: median([item.parts_s[n] for item in rounds if n in item.parts_s]) for n in names}


def _stream(rounds: Sequence[Round]) -> Stream | None:
    each = [item.stream for item in rounds if item.stream is not None]
    if not each:
        return None
    counts = {
        name: sum(getattr(item, name) for item in each)
        for name in ("offered", "processed", "dropped", "late", "misses")
    }
    rate_of_misses = share(counts["misses"], counts["offered"])
    return each[0].model_copy(update={**counts, "miss_rate": rate_of_misses})
