"""A session's numbers in Prometheus' text format 0.0.4."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cellseg.live.snapshot import LiveSnapshot

__all__ = ["CONTENT_TYPE", "format_metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}
_STATES = ("running", "paused", "closed")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def format_metrics(seen: LiveSnapshot | None, segment_answers: Mapping[int, int]) -> str:
    """Write the numbers of this moment.

    Parameters
    ----------
    seen : LiveSnapshot or None
        State of the session; None where the server has none.
    segment_answers : mapping of int to int
        How often ``POST /segment`` answered with each HTTP status.
    """
    lines = list(_session_lines(seen)) if seen is not None else []
    lines += _metric(
        "segment_requests_total",
        "counter",
        "Answers of POST /segment by HTTP status.",
        (({"status": str(status)}, count) for status, count in sorted(segment_answers.items())),
    )
    return "\n".join(lines) + "\n"


def _session_lines(seen: LiveSnapshot) -> Iterator[str]:
    counters = seen.counters
    yield from _one("frames_sent_total", "counter", "Frames submitted.", counters.sent)
    yield from _one("frames_done_total", "counter", "Frames with a result.", counters.done)
    yield from _metric(
        "frames_dropped_total",
        "counter",
        "Frames without a result, by reason.",
        (({"reason": why.value}, n) for why, n in counters.dropped_by_reason.items()),
    )
    yield from _one(
        "frames_waiting", "gauge", "Frames queued or being segmented.", counters.waiting
    )
    yield from _one("results_per_second", "gauge", "Results a second, last seconds.", seen.fps)
    latency = seen.latency.as_dict()
    yield from _metric(
        "latency_seconds",
        "gauge",
        "Exposure to result, of the newest results.",
        (
            ({"quantile": _QUANTILES[name]}, ms / 1e3)
            for name, ms in latency.items()
            if ms is not None and name in _QUANTILES
        ),
    )
    yield from _metric(
        "cells_total",
        "counter",
        "Cells found, summed over frames, by class.",
        (({"class": name}, count) for name, count in seen.counts.items()),
    )
    yield from _metric(
        "session_state",
        "gauge",
        "1 for the state the session is in.",
        (({"state": state}, int(state == seen.state)) for state in _STATES),
    )
    yield from _one("uptime_seconds", "gauge", "Since the session began.", seen.elapsed_s)
    info = {"model": seen.model, "engine": seen.engine or "none"}
    yield from _metric("info", "gauge", "What runs.", [(info, 1)])


def _one(name: str, kind: str, words: str, value: float) -> Iterator[str]:
    return _metric(name, kind, words, [({}, value)])


def _metric(
    name: str, kind: str, words: str, values: Iterable[tuple[Mapping[str, str], float]]
) -> Iterator[str]:
    yield f"# HELP cellseg_{name} {words}"
    yield f"# TYPE cellseg_{name} {kind}"
    for labels, value in values:
        inside = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
        yield f"cellseg_{name}{{{inside}}} {value}" if inside else f"cellseg_{name} {value}"
