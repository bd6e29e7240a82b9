"""Reports as Markdown tables: what the README and the pages in docs/ show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.bench.meters.fingerprint import machine_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from cellseg.bench.record import Accuracy, Estimate, Report, Row
    from cellseg.bench.reports.compare import Change, Comparison
    from cellseg.bench.reports.condition import Condition

__all__ = [
    "METRIC_COLUMNS",
    "accuracy_words",
    "comparison_text",
    "fill_section",
    "filled",
    "merged_table",
    "number",
    "report_markdown",
    "rows_by_scenario",
    "rows_table",
    "spread_words",
]

_HEADS = {
    "tile-single": "one query at a time",
    "tile-offline": "engine kept busy, tiles in memory",
    "slide": "slide from file to finished files",
    "stream": "frames at a fixed rate",
    "cold": "process start to first result",
}


_WHO: dict[str, Callable[[Row], str]] = {
    "model": lambda row: row.contestant.model,
    "engine": lambda row: row.contestant.engine,
    "precision": lambda row: row.contestant.precision,
    "tile": lambda row: str(row.contestant.tile_px),
    "batch": lambda row: str(row.contestant.batch) if row.contestant.batch > 1 else "",
    "threads": lambda row: str(row.contestant.threads or ""),
}
METRIC_COLUMNS: dict[str, Callable[[Row], str]] = {
    "p50, ms": lambda row: spread_words(row.percentile("p50")),
    "p90, ms": lambda row: spread_words(row.percentile("p90")),
    "p99, ms": lambda row: spread_words(row.percentile("p99")),
    "MP/s": lambda row: spread_words(row.throughput_mpx_s),
    "mm²/s": lambda row: number(row.mm2_per_s),
    "missed": lambda row: "" if row.stream is None else f"{row.stream.miss_rate.value:.1%}",
    "first use, s": lambda row: number((row.first_use_s or {}).get("wall")),
    "engine build, s": lambda row: number((row.first_use_s or {}).get("engine")),
    "of GEMM peak": lambda row: "" if row.of_peak is None else f"{row.of_peak:.0%}",
    "peak RSS, MiB": lambda row: number(row.peak_rss_mb, 0),
    "GPU, MiB": lambda row: number(row.device_memory_mb, 0),
    "J/mm²": lambda row: number(row.joule_per_mm2),
    "Dice, F1": lambda row: accuracy_words(row.accuracy),
    "samples": lambda row: "" if row.latency_ms is None else str(row.latency_ms.samples),
    "outliers": lambda row: str((row.latency_ms and row.latency_ms.outliers) or ""),
}


def report_markdown(report: Report) -> str:
    """Return a whole report, for people."""
    parts = [
        "# cellseg benchmark",
        f"{machine_words(report.machine)}; cellseg {report.machine['cellseg']}, {report.started}.",
        _verdict(report),
    ]
    for scenario, head in _HEADS.items():
        rows = [row for row in report.rows if row.contestant.scenario == scenario]
        if rows:
            parts += [f"## {scenario}: {head}", rows_table(rows), *_notes(rows)]
    parts += ["## Accuracy of each variant", _accuracy_table(report.rows), _explanation(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def rows_by_scenario(report: Report) -> str:
    """Return the tables of a report alone, for a page that explains them itself."""
    parts = [f"{machine_words(report.machine)}; cellseg {report.machine['cellseg']}."]
    if not report.valid or report.status != "done":
        parts.append(_verdict(report))
    for scenario, head in _HEADS.items():
        rows = [row for row in report.rows if row.contestant.scenario == scenario]
        if rows:
            parts += [f"{scenario}, {head}:", rows_table(rows)]
    return "\n\n".join(parts)


def rows_table(rows: Sequence[Row]) -> str:
    """Return rows of one scenario as a table; a column that no row fills is left out."""
    columns = _WHO | METRIC_COLUMNS | {"": _mark}
    shown = filled(rows, columns)
    return table(list(shown), zip(*shown.values(), strict=True))


def filled(
    rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]
) -> dict[str, list[str]]:
    """Return the cells of each column; one that no row fills is left out."""
    cells = {head: [read(row) for row in rows] for head, read in columns.items()}
    return {head: texts for head, texts in cells.items() if any(texts)}


def merged_table(reports: Sequence[Report]) -> str:
    """Return one table of many machines: a row a contestant, two columns a machine, accuracy last.

    Contestants that no machine measured or failed at are left out.
    """
    names = [_short_name(report, index) for index, report in enumerate(reports)]
    every = [row for report in reports for row in report.rows]
    keys = list(dict.fromkeys(row.key for row in every if row.rounds or row.status == "failed"))
    accuracy = {row.key: accuracy_words(row.accuracy) for row in reversed(every)}
    by_key = [{row.key: row for row in report.rows} for report in reports]
    heads = ["contestant"]
    heads += [f"{name}: {what}" for name in names for what in ("p50, ms", "MP/s")]
    heads.append("Dice, F1")
    lines = []
    for key in keys:
        cells = [key]
        for rows in by_key:
            row = rows.get(key)
            missing = "-" if row is None or row.status == "done" else row.status
            cells += [missing, "-"] if row is None else [
                spread_words(row.percentile("p50")) or missing,
                spread_words(row.throughput_mpx_s) or "-",
            ]  # fmt: skip
        lines.append([*cells, accuracy[key] or "-"])
    described = [f"- {name}: {machine_words(r.machine)}; {_verdict(r)}" for name, r in
                 zip(names, reports, strict=True)]  # fmt: skip
    return "\n".join(described) + "\n\n" + table(heads, lines)


def comparison_text(found: Comparison, conditions: Sequence[Condition]) -> str:
    """Return a comparison as Markdown, regressions last."""
    rows = [
        [c.key, c.words, number(c.before, 4), number(c.after, 4), _change_words(c)]
        for c in found.changes
    ]
    parts = [table(["contestant", "metric", "before", "after", "change (95 % interval)"], rows)]
    parts += [f"does not run any more: {text}" for text in found.failed]
    parts += [
        f"regression: {change.key}: {change.words} {_change_words(change)}, asked: {condition.text}"
        for change, condition in found.regressions(conditions)
    ]
    return "\n\n".join(parts)


def fill_section(path: Path, marker: str, text: str) -> bool:
    """Replace what stands between ``<!-- marker:begin -->`` and ``<!-- marker:end -->``.

    Returns
    -------
    bool
        Whether the page has the markers.
    """
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    page = path.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        return False
    head, rest = page.split(begin, 1)
    tail = rest.split(end, 1)[1]
    path.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}", encoding="utf-8")
    return True


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar in a name, of a set or a model, ends no cell."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in rows)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def number(value: float | None, digits: int = 3) -> str:
    """Format to so many significant digits (0: to the unit); "" for None."""
    if value is None:
        return ""
    if digits == 0:
        return f"{value:.0f}"
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def spread_words(found: Estimate | None) -> str:
    """Format an estimate with its interval; "" for None."""
    if found is None:
        return ""
    if found.low is None or found.high is None:
        return number(found.value)
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def accuracy_words(found: Sequence[Accuracy]) -> str:
    """Format the mean over sets, each image counting alike; what a bundle states has a star."""
    images = sum(item.images for item in found)
    if not images:
        return ""
    dice = sum(_mean(item.dice.values()) * item.images for item in found) / images
    scored = [item for item in found if item.object_f1 is not None]
    star = "*" if any(item.origin == "bundle" for item in found) else ""
    if not scored:
        return f"{dice:.3f}{star}"
    f1 = sum((i.object_f1 or 0.0) * i.images for i in scored) / sum(i.images for i in scored)
    return f"{dice:.3f}, {f1:.3f}{star}"


def _accuracy_table(rows: Sequence[Row]) -> str:
    seen = {}
    for row in rows:
        who = row.contestant
        for item in row.accuracy:
            seen[who.model, who.engine, who.precision, item.dataset] = item
    heads = ["model", "engine", "precision", "set", "images", "Dice", "F1", "count error", "origin"]
    lines = [
        [*who, str(item.images), ", ".join(f"{n} {v:.4f}" for n, v in item.dice.items()),
         "" if item.object_f1 is None else f"{item.object_f1:.4f}",
         "" if item.count_error is None else f"{item.count_error:.1%}",
         "measured in this run" if item.origin == "measured" else "stated by the bundle"]
        for who, item in seen.items()
    ]  # fmt: skip
    return (
        table(heads, lines) if lines else "Not known: the bundles state none, and no set was given."
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = [f"- {row.key}: {row.status}: {row.failure}" for row in rows if row.failure]
    notes += [f"- {row.key}: invalid: {r}" for row in rows for r in row.invalid_reasons]
    notes += [
        f"- {row.key}: {row.latency_ms.outliers} of {row.latency_ms.samples} samples are outliers, "
        f"the slowest {number(row.latency_ms.slowest)} ms; all are counted"
        for row in rows
        if row.latency_ms is not None and row.latency_ms.outliers
    ]
    return ["\n".join(notes)] if notes else []


def _verdict(report: Report) -> str:
    if report.valid and report.status == "done":
        return "Valid: no drift, throttling, sleep or busy neighbours were seen."
    words = [] if report.status == "done" else ["interrupted"]
    if not report.valid:
        hit = sum(not row.valid for row in report.rows)
        words.append(
            f"INVALID: {hit} of {len(report.rows)} contestants were disturbed; "
            f"{report.invalid_reasons[0]}"
        )
    return f"**{'; '.join(words)}**"


def _explanation(report: Report) -> str:
    peaks = [
        f"{p} {peak.gflop_s:.0f} GFLOP/s ({peak.by})" for p, peak in report.peaks.items() if peak
    ]
    lines = [
        "Behind each number its 95 % interval, rounds drawn before samples. A percentile without "
        "enough samples is left out. MP/s are pixels of results, halos not counted.",
        "A star: accuracy as the bundle states it, not measured in this run.",
        f"Fastest matrix product here: {', '.join(peaks)}." if peaks else "",
    ]
    return "\n\n".join(line for line in lines if line)


def _mark(row: Row) -> str:
    if row.status != "done":
        return row.status
    return "" if row.valid else "invalid"


def _change_words(change: Change) -> str:
    if change.ratio is None:
        return f"{change.after - change.before:+.3g}"
    words = f"{change.ratio - 1:+.1%}"
    if change.low is None or change.high is None:
        return words
    return f"{words} ({change.low - 1:+.1%} to {change.high - 1:+.1%})"


def _short_name(report: Report, index: int) -> str:
    gpus = report.machine.get("gpus") or ()
    name = gpus[0]["name"] if gpus else report.machine["cpu"]
    return f"{index + 1}. {name} x{report.machine['cores']}"


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
