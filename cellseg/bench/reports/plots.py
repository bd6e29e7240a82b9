"""Plots of a report as inline SVG: no script, no font and no picture from elsewhere.

Colours are classes (``c0`` .. ``c7``) that the page's style sheet sets, for light and dark. Every
mark has a ``<title>``, which browsers show when it is pointed at. Widths are those of a view box,
so that a plot shrinks to a phone's screen.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellseg.bench.reports.markdown import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cellseg.bench.record import Row

__all__ = [
    "COLOURS",
    "Bar",
    "history_plot",
    "labels_of",
    "latency_cdf",
    "pareto",
    "roofline_bars",
    "stage_bars",
    "value_bars",
]

COLOURS = 8
_WIDTH, _HEIGHT = 640, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 16, 14, 50
_BARS_LEFT = 8
_BAR, _BAR_GAP = 22, 30
_MOST_POINTS = 400
_LEAST_TICKS = 3
_MOST_LABELS = 6
_STAGES = ("read", "infer", "stitch", "cells", "write")


@dataclass(frozen=True)
class _Axis:
    """From values to places in the view box."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.is_log:
            found = self._log_ticks((1, 2, 5))
            if len(found) >= _LEAST_TICKS:
                return found
            found = self._log_ticks(range(1, 10))
            if len(found) >= _LEAST_TICKS:
                return found
        span = (self.high - self.low) or 1.0
        step = 10.0 ** math.floor(math.log10(span / 4))
        step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _log_ticks(self, steps: Iterable[int]) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        every = [step * 10.0**decade for decade in decades for step in steps]
        return [tick for tick in every if self.low <= tick <= self.high]


@dataclass(frozen=True)
class Bar:
    """A number with a name."""

    name: str
    value: float
    colour: int = 0
    """Place in the key of colours."""


def labels_of(rows: Sequence[Row]) -> list[str]:
    """Name rows by what tells them apart; engine and precision always."""
    fields = {
        "model": [row.contestant.model for row in rows],
        "engine": [row.contestant.engine for row in rows],
        "precision": [row.contestant.precision for row in rows],
        "tile": [f"tile {row.contestant.tile_px}" for row in rows],
        "batch": [f"batch {row.contestant.batch}" for row in rows],
        "threads": [f"{row.contestant.threads or 'all'} threads" for row in rows],
    }
    shown = [v for k, v in fields.items() if k in ("engine", "precision") or len(set(v)) > 1]
    return [" ".join(parts) for parts in zip(*shown, strict=True)]


def latency_cdf(rows: Sequence[Row]) -> str:
    """Share of queries that are done within a time, a line a contestant; "" without samples."""
    drawn = [(row, sorted(ms for r in row.rounds for ms in r.samples_ms)) for row in rows]
    drawn = [(row, times) for row, times in drawn if times]
    if not drawn:
        return ""
    low = min(times[0] for _, times in drawn)
    high = max(times[-1] for _, times in drawn)
    x = _Axis(low * 0.9, high * 1.1, _LEFT, _WIDTH - _RIGHT, is_log=True)
    y = _Axis(0, 1, _HEIGHT - _BOTTOM, _TOP)
    parts = [_frame(x, y, "milliseconds (logarithmic)", "share of queries", percent=True)]
    names = labels_of([row for row, _ in drawn])
    for index, ((_, times), name) in enumerate(zip(drawn, names, strict=True)):
        parts.append(_line(_steps(times, x, y), index, f"{name}: {len(times)} samples"))
    return _svg(parts, _HEIGHT, "Latency: share of queries done within a time") + _legend(names)


def pareto(rows: Sequence[Row]) -> str:
    """Speed against accuracy, a point a contestant; "" where one of them is not known."""
    points = [
        (row, row.throughput_mpx_s.value, _mean_dice(row))
        for row in rows
        if row.throughput_mpx_s is not None and row.accuracy
    ]
    if not points:
        return ""
    speeds, scores = [p[1] for p in points], [p[2] for p in points]
    pad = max(0.004, (max(scores) - min(scores)) * 0.25)
    x = _Axis(0, max(speeds) * 1.15, _LEFT, _WIDTH - _RIGHT)
    y = _Axis(min(scores) - pad, min(1.0, max(scores) + pad), _HEIGHT - _BOTTOM, _TOP)
    parts = [_frame(x, y, "megapixels a second", "Dice, mean over images")]
    front = [
        (s, d)
        for s, d in zip(speeds, scores, strict=True)
        if not any(
            s2 >= s and d2 >= d and (s2, d2) != (s, d)
            for s2, d2 in zip(speeds, scores, strict=True)
        )
    ]
    front.sort()
    places = " ".join(f"{x.at(s):.1f},{y.at(d):.1f}" for s, d in front)
    parts.append(f'<polyline class="front" points="{places}"/>')
    names = labels_of([row for row, _, _ in points])
    for index, ((_, speed, score), name) in enumerate(zip(points, names, strict=True)):
        title = f"{name}: {number(speed)} MP/s, Dice {score:.4f}"
        parts.append(
            f'<circle class="c{index % COLOURS}" cx="{x.at(speed):.1f}" cy="{y.at(score):.1f}" '
            f'r="7">{_title(title)}</circle>'
        )
    return _svg(parts, _HEIGHT, "Speed against accuracy") + _legend(names)


def stage_bars(rows: Sequence[Row]) -> str:
    """Busy seconds of each stage of a slide, a bar a contestant, and the time it took in all."""
    chosen = [row for row in rows if row.contestant.scenario == "slide" and row.stages_s]
    if not chosen:
        return ""
    totals = [sum(row.stages_s.get(stage, 0.0) for stage in _STAGES) for row in chosen]
    walls = [row.stages_s.get("wall", 0.0) for row in chosen]
    x = _Axis(0, max(*totals, *walls) * 1.08, _BARS_LEFT, _WIDTH - _RIGHT)
    height = _BOTTOM + len(chosen) * (_BAR + _BAR_GAP) + 6
    parts = [_x_axis(x, height, "busy seconds, all threads added up")]
    for place, (row, name) in enumerate(zip(chosen, labels_of(chosen), strict=True)):
        top = 24 + place * (_BAR + _BAR_GAP)
        parts.append(_text(_BARS_LEFT, top - 6, name, "name"))
        at = 0.0
        for index, stage in enumerate(_STAGES):
            spent = row.stages_s.get(stage, 0.0)
            parts.append(_rect(x.at(at), top, x.at(at + spent), index, f"{stage}: {spent:.2f} s"))
            at += spent
        wall = row.stages_s.get("wall", 0.0)
        parts.append(_tick(x.at(wall), top, f"took {wall:.2f} s"))
    key = [*_STAGES, "mark across: time taken"]
    return _svg(parts, height, "Busy seconds of the stages of a slide") + _legend(key, marks=5)


def roofline_bars(rows: Sequence[Row]) -> str:
    """Operations a second of each contestant under the fastest matrix product of the machine."""
    chosen = [row for row in rows if row.roofline is not None]
    if not chosen:
        return ""
    tops = [max(r.roofline.gflop_s, r.roofline.peak_gflop_s or 0) for r in chosen if r.roofline]
    x = _Axis(0, max(tops) * 1.1, _BARS_LEFT, _WIDTH - _RIGHT)
    height = _BOTTOM + len(chosen) * (_BAR + _BAR_GAP) + 6
    parts = [_x_axis(x, height, "GFLOP/s (int8: the same operations)")]
    names = [
        f"{row.contestant.scenario}: {n}" for row, n in zip(chosen, labels_of(chosen), strict=True)
    ]
    for place, (row, name) in enumerate(zip(chosen, names, strict=True)):
        found = row.roofline
        assert found is not None  # or it would not have been chosen
        top = 24 + place * (_BAR + _BAR_GAP)
        share = "" if found.of_peak is None else f", {found.of_peak:.0%} of the peak"
        parts.append(_text(_BARS_LEFT, top - 6, f"{name}{share}", "name"))
        title = f"{name}: {number(found.gflop_s)} GFLOP/s{share}"
        if found.peak_gflop_s is not None:
            parts.append(
                f'<rect class="roof" x="{_BARS_LEFT}" y="{top}" height="{_BAR}" '
                f'width="{x.at(found.peak_gflop_s) - _BARS_LEFT:.1f}">'
                f"{_title(f'peak {found.peak_gflop_s:.0f} GFLOP/s')}</rect>"
            )
        index = ("fp32", "int8", "bf16", "fp16").index(row.contestant.precision)
        parts.append(_rect(_BARS_LEFT, top, x.at(found.gflop_s), index, title))
        if found.peak_gflop_s is not None:
            parts.append(_tick(x.at(found.peak_gflop_s), top, f"peak {found.peak_gflop_s:.0f}"))
    return _svg(parts, height, "Operations a second under the roof of the machine")


def value_bars(bars: Sequence[Bar], axis: str, label: str) -> str:
    """Draw a number of each contestant as a bar, its value behind its name; "" without any."""
    if not bars:
        return ""
    x = _Axis(0, (max(bar.value for bar in bars) or 1.0) * 1.05, _BARS_LEFT, _WIDTH - _RIGHT)
    height = _BOTTOM + len(bars) * (_BAR + _BAR_GAP) + 6
    parts = [_x_axis(x, height, axis)]
    for place, bar in enumerate(bars):
        top = 24 + place * (_BAR + _BAR_GAP)
        words = f"{bar.name}: {number(bar.value)}"
        parts.append(_text(_BARS_LEFT, top - 6, words, "name"))
        parts.append(_rect(_BARS_LEFT, top, x.at(bar.value), bar.colour, words))
    return _svg(parts, height, label)


def history_plot(series: Mapping[str, Sequence[tuple[str, float, float, float]]]) -> str:
    """Draw a number over time, with its interval: a line a machine.

    Parameters
    ----------
    series : mapping of str to sequence of (str, float, float, float)
        By machine, all of one length: label of a moment, whose first word stands at the axis,
        value, lower and upper end; NaN where it was not measured.
    """
    known = {
        name: [(i, p) for i, p in enumerate(points) if not math.isnan(p[1])]
        for name, points in series.items()
    }
    every = [point for points in known.values() for point in points]
    if not every:
        return ""
    low, high = min(p[2] for _, p in every), max(p[3] for _, p in every)
    x = _Axis(-0.5, max(i for i, _ in every) + 0.5, _LEFT, _WIDTH - _RIGHT)
    y = _Axis(low * 0.95, high * 1.05, _HEIGHT - _BOTTOM, _TOP)
    labels = {i: p[0] for points in known.values() for i, p in points}
    shown = sorted(labels)[:: -(-len(labels) // _MOST_LABELS)]
    names = [(float(i), labels[i].partition(" ")[0]) for i in shown]
    parts = [_frame(x, y, "commits measured, the oldest first", "ratio", marks=names)]
    for index, (name, points) in enumerate(known.items()):
        places = " ".join(f"{x.at(i):.1f},{y.at(p[1]):.1f}" for i, p in points)
        parts.append(_line(places, index, name))
        colour = f"c{index % COLOURS}"
        for i, (label, value, bottom, top) in points:
            at, title = x.at(i), f"{label}: {value:.3g} ({bottom:.3g} to {top:.3g})"
            ends = f'x1="{at:.1f}" x2="{at:.1f}" y1="{y.at(bottom):.1f}" y2="{y.at(top):.1f}"'
            parts.append(f'<line class="{colour}" {ends}/>')
            place = f'cx="{at:.1f}" cy="{y.at(value):.1f}"'
            parts.append(f'<circle class="{colour}" {place} r="4">{_title(title)}</circle>')
    return _svg(parts, _HEIGHT, "A ratio over time") + _legend(list(known))


# --- pieces --------------------------------------------------------------------------------------


def _svg(parts: Sequence[str], height: float, label: str) -> str:
    inner = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{html.escape(label)}">'
        f"\n{inner}\n</svg>\n"
    )


def _frame(
    x: _Axis,
    y: _Axis,
    x_name: str,
    y_name: str,
    *,
    percent: bool = False,
    marks: Sequence[tuple[float, str]] | None = None,
) -> str:
    parts = [_x_axis(x, _HEIGHT, x_name, marks)]
    for tick in y.ticks():
        at = y.at(tick)
        words = f"{tick:.0%}" if percent else f"{tick:.4g}"
        parts.append(
            f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(_text(_LEFT - 6, at + 4, words, "y"))
    middle = (y.start + y.end) / 2
    parts.append(
        f'<text class="axis" transform="translate(16 {middle:.0f}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(y_name)}</text>'
    )
    return "\n".join(parts)


def _x_axis(
    x: _Axis, height: float, name: str, marks: Sequence[tuple[float, str]] | None = None
) -> str:
    bottom = height - _BOTTOM
    parts = [f'<line class="base" x1="{x.start}" x2="{x.end}" y1="{bottom}" y2="{bottom}"/>']
    for tick, words in marks or [(tick, f"{tick:.4g}") for tick in x.ticks()]:
        at = x.at(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(_text(at, bottom + 18, words, "x"))
    parts.append(_text((x.start + x.end) / 2, bottom + 42, name, "x axis"))
    return "\n".join(parts)


def _steps(times: Sequence[float], x: _Axis, y: _Axis) -> str:
    """Return the points of an empirical distribution, thinned where there are very many."""
    count = len(times)
    kept = np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).astype(int))
    points = [(times[0], 0.0)]
    for index in kept:
        points += [(times[index], points[-1][1]), (times[index], (index + 1) / count)]
    return " ".join(f"{x.at(ms):.1f},{y.at(share):.1f}" for ms, share in points)


def _line(points: str, index: int, title: str) -> str:
    return f'<polyline class="line c{index % COLOURS}" points="{points}">{_title(title)}</polyline>'


def _rect(left: float, top: float, right: float, index: int, title: str) -> str:
    width = max(0.0, right - left)
    return (
        f'<rect class="c{index % COLOURS}" x="{left:.1f}" y="{top}" width="{width:.1f}" '
        f'height="{_BAR}">{_title(title)}</rect>'
    )


def _tick(at: float, top: float, title: str) -> str:
    return (
        f'<rect class="tick" x="{at - 1.5:.1f}" y="{top - 3}" width="3" height="{_BAR + 6}">'
        f"{_title(title)}</rect>"
    )


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{html.escape(words)}</text>'


def _title(words: str) -> str:
    return f"<title>{html.escape(words)}</title>"


def _legend(names: Sequence[str], marks: int | None = None) -> str:
    """Return the key of a plot; names past ``marks`` have no colour of their own."""
    items = [
        f'<li><i class="{f"c{index % COLOURS}" if marks is None or index < marks else "tick"}"></i>'
        f"{html.escape(name)}</li>"
        for index, name in enumerate(names)
    ]
    return f'<ul class="key">{"".join(items)}</ul>\n'


def _mean_dice(row: Row) -> float:
    images = sum(item.images for item in row.accuracy)
    each = [sum(i.dice.values()) / max(1, len(i.dice)) * i.images for i in row.accuracy]
    return sum(each) / max(1, images)
