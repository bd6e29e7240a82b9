"""The report as one HTML file that loads nothing: plots, tables, the machine, raw sample counts."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from cellseg.bench.meters.fingerprint import machine_words
from cellseg.bench.reports import plots
from cellseg.bench.reports.markdown import METRIC_COLUMNS, filled, number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cellseg.bench.record import Report, Row

__all__ = ["STYLE", "document", "report_page"]

_HEADS = {
    "tile-single": ("One query at a time", "Latency of a program that waits for each answer."),
    "tile-offline": (
        "Engine kept busy",
        "Tiles that lie in memory, as many in flight as the engine wants: the floor of a slide.",
    ),
    "slide": ("Whole slide", "From the file to finished files on disk."),
    "stream": (
        "Camera frames",
        "A frame is missed if its result comes after the next frame, or if it was passed over.",
    ),
    "cold": ("Cold start", "From the start of the process to its first result."),
}
STYLE = """
:root{--ink:#17202a;--soft:#5b6672;--rule:#dde2e8;--paper:#fff;--card:#f6f8fa;--bad:#b3261e;
--good:#1d7a3d;--roof:#e6eaef;--c0:#1f6fb4;--c1:#d9730d;--c2:#1b8a5a;--c3:#a63d84;--c4:#7a6a00;
--c5:#0b8ea0;--c6:#c0392b;--c7:#5c5fc4}
@media(prefers-color-scheme:dark){:root{--ink:#e7ecf1;--soft:#9aa6b2;--rule:#303944;
--paper:#12171d;--card:#1a2129;--bad:#ff8a80;--good:#7bd89b;--roof:#2a333d;--c0:#6cb2eb;
--c1:#f6a15b;--c2:#5fce9c;--c3:#e28cc6;--c4:#d5c34a;--c5:#58cfdf;--c6:#ff8b7c;--c7:#a5a8ff}}
*{box-sizing:border-box}
body{font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;margin:0 auto;
max-width:60rem;padding:1.2rem;color:var(--ink);background:var(--paper)}
h1{font-size:1.6rem;margin:.2rem 0}h2{font-size:1.25rem;margin:2.4rem 0 .2rem}
p{margin:.4rem 0}p.note,figcaption,footer{color:var(--soft);font-size:.9rem}
.verdict{border-left:4px solid var(--good);background:var(--card);padding:.6rem .9rem;
margin:1rem 0}
.verdict.bad{border-color:var(--bad)}.verdict ul{margin:.3rem 0;padding-left:1.2rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.7rem;
margin:1rem 0}
.cards div{background:var(--card);border-radius:.5rem;padding:.7rem .9rem}
.cards b{display:block;font-size:1.45rem;line-height:1.2}.cards span{color:var(--soft);
font-size:.85rem}
figure{margin:1rem 0;overflow:hidden}svg{width:100%;height:auto;display:block}
svg text{font:12px system-ui,sans-serif;fill:var(--soft)}svg .x{text-anchor:middle}
svg .y{text-anchor:end}svg .name{fill:var(--ink);font-size:12.5px}
svg .grid{stroke:var(--rule);stroke-width:1}svg .base{stroke:var(--soft)}
svg .front{fill:none;stroke:var(--soft);stroke-width:1.5;stroke-dasharray:5 4}
svg .line{fill:none!important;stroke-width:2.2}svg .roof{fill:var(--roof)}
.tick,svg .tick{fill:var(--ink);background:var(--ink)}
.c0{fill:var(--c0);stroke:var(--c0);background:var(--c0)}
.c1{fill:var(--c1);stroke:var(--c1);background:var(--c1)}
.c2{fill:var(--c2);stroke:var(--c2);background:var(--c2)}
.c3{fill:var(--c3);stroke:var(--c3);background:var(--c3)}
.c4{fill:var(--c4);stroke:var(--c4);background:var(--c4)}
.c5{fill:var(--c5);stroke:var(--c5);background:var(--c5)}
.c6{fill:var(--c6);stroke:var(--c6);background:var(--c6)}
.c7{fill:var(--c7);stroke:var(--c7);background:var(--c7)}
rect[class^=c]{stroke:none}
ul.key{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0;margin:.3rem 0;
font-size:.88rem}ul.key i{display:inline-block;width:.8rem;height:.8rem;border-radius:.15rem;
margin-right:.35rem;vertical-align:-.06rem}ul.key i.tick{width:.25rem}
.wide{overflow-x:auto;-webkit-overflow-scrolling:touch}
.wide th:first-child,.wide td:first-child{position:sticky;left:0;background:var(--paper)}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--rule);
white-space:nowrap}th{color:var(--soft);font-weight:500}td.n,th.n{text-align:right}
td small{color:var(--soft)}tr.bad td{color:var(--bad);white-space:normal}
details{margin:1rem 0}summary{cursor:pointer;font-weight:600}
@media(max-width:34rem){body{padding:.8rem;font-size:15px}svg text{font-size:17px}
svg .name{font-size:17px}}
"""


_ROOF = (
    "Coloured: what the network computes a second, halos included. Grey, with a mark at its end: "
    "the fastest matrix product that any library here reaches at that precision."
)
_FOOTER = (
    "<footer><p>In small print: 95 % intervals, by a bootstrap that draws rounds first and samples "
    "within them second. A percentile that the samples do not bear is left out. MP/s are pixels of "
    "results, halos not counted; a star marks accuracy that the bundle states and this run did not "
    "measure. Nothing on this page comes from elsewhere; the raw samples are in bench.json.</p>"
    "</footer>"
)


def report_page(report: Report) -> str:
    """Return a report as one HTML document."""
    body = [
        "<h1>cellseg benchmark</h1>",
        f"<p>{html.escape(machine_words(report.machine))}</p>",
        f'<p class="note">cellseg {html.escape(str(report.machine["cellseg"]))}, '
        f"{html.escape(report.started)}, {report.wall_s:.0f} s</p>",
        _verdict(report),
        _cards(report.rows),
        *_overview(report),
        *(_scenario(name, report) for name in _HEADS),
        _accuracy(report),
        _machine(report),
        _FOOTER,
    ]
    return document(f"cellseg benchmark, {report.machine['cpu']}", "\n".join(filter(None, body)))


def document(title: str, body: str) -> str:
    """Return an HTML document with the style of reports."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _verdict(report: Report) -> str:
    if report.valid and report.status == "done":
        return (
            '<div class="verdict"><b>Valid.</b> No drift, throttling, sleep or busy neighbours '
            "were seen.</div>"
        )
    reasons = list(report.invalid_reasons)
    if report.status != "done":
        reasons.insert(0, "the run was interrupted: some rounds are missing")
    items = "".join(f"<li>{html.escape(reason)}</li>" for reason in reasons)
    word = "Invalid." if not report.valid else "Incomplete."
    listed = f"<ul>{items}</ul>"
    if len(reasons) > 3:
        count = f"{len(reasons)} reasons, the first: {html.escape(reasons[0])}"
        listed = f"<details><summary>{count}</summary>{listed}</details>"
    return f'<div class="verdict bad"><b>{word}</b>{listed}</div>'


def _cards(rows: Sequence[Row]) -> str:
    """Return the best of each scenario in large figures."""
    cards = []
    for scenario, value, words in (
        ("tile-single", lambda r: -r.latency_ms.p50.value, "ms a tile, median"),
        ("tile-offline", lambda r: r.throughput_mpx_s.value, "MP/s, engine kept busy"),
        ("slide", lambda r: r.throughput_mpx_s.value, "MP/s, whole slide"),
        ("stream", lambda r: -r.stream.miss_rate.value, "of frames missed"),
        ("cold", lambda r: -r.latency_ms.p50.value, "ms to the first result"),
    ):
        best = _best(rows, scenario, value)
        if best is None:
            continue
        row, found = best
        shown = f"{abs(found):.1%}" if scenario == "stream" else number(abs(found))
        who = f"{row.contestant.engine} {row.contestant.precision}"
        cards.append(f"<div><b>{shown}</b>{words}<br><span>{html.escape(who)}</span></div>")
    return f'<div class="cards">{"".join(cards)}</div>'


def _best(
    rows: Sequence[Row], scenario: str, value: Callable[[Row], float]
) -> tuple[Row, float] | None:
    found = []
    for row in rows:
        if row.contestant.scenario != scenario or not row.rounds or row.status == "failed":
            continue
        needs_p50 = scenario in ("tile-single", "cold")
        if needs_p50 and (row.latency_ms is None or row.latency_ms.p50 is None):
            continue
        found.append((row, value(row)))
    return max(found, key=lambda pair: pair[1], default=None)


def _overview(report: Report) -> list[str]:
    """Return the plots over the whole report."""
    offline = [row for row in report.rows if row.contestant.scenario == "tile-offline"]
    slides = [row for row in report.rows if row.contestant.scenario == "slide"]
    stated = any(item.origin == "bundle" for row in report.rows for item in row.accuracy)
    origin = "as the bundle states it" if stated else "measured in this run"
    return [
        _figure(
            "Speed against accuracy",
            plots.pareto(offline or slides),
            f"Up and to the right is better; accuracy {origin}.",
        ),
        _figure("Roofline", plots.roofline_bars([*offline, *slides]), _ROOF),
    ]


def _scenario(name: str, report: Report) -> str:
    rows = [row for row in report.rows if row.contestant.scenario == name]
    if not rows:
        return ""
    head, words = _HEADS[name]
    absent = _absent([row for row in rows if row.status == "unavailable"])
    rows = [row for row in rows if row.status != "unavailable"]
    if not any(row.rounds or row.failure for row in rows):
        return f'<section id="{name}"><h2>{head}</h2><p>Not measured.</p>{absent}</section>'
    plot = plots.stage_bars(rows) if name == "slide" else plots.latency_cdf(rows)
    caption = "" if name == "slide" else "Share of queries that are done within a time."
    return (
        f'<section id="{name}"><h2>{head}</h2><p class="note">{words}</p>'
        f"{_figure('', plot, caption)}{_table(rows)}{absent}</section>"
    )


def _absent(rows: Sequence[Row]) -> str:
    """Name what cannot run on this machine, once for each reason."""
    by_reason: dict[str, list[str]] = {}
    for row, name in zip(rows, plots.labels_of(rows), strict=True):
        by_reason.setdefault(row.failure or "", []).append(name)
    return "".join(
        f'<p class="note">Not on this machine: {html.escape(", ".join(names))} '
        f"({html.escape(reason)})</p>"
        for reason, names in by_reason.items()
    )


def _figure(head: str, svg: str, caption: str) -> str:
    if not svg:
        return ""
    title = f"<h2>{head}</h2>" if head else ""
    return f"{title}<figure>{svg}<figcaption>{caption}</figcaption></figure>"


def _table(rows: Sequence[Row]) -> str:
    names = plots.labels_of(rows)
    shown = filled(rows, METRIC_COLUMNS)
    heads = "".join(f'<th class="n">{head}</th>' for head in shown)
    lines = []
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        values = "".join(
            f'<td class="n">{_cell(texts[index]) or "–"}</td>' for texts in shown.values()
        )
        lines.append(f"<tr><td>{html.escape(name)}</td>{values}</tr>")
        why = row.failure or "; ".join(row.invalid_reasons)
        if why:
            mark = row.status if row.failure else "invalid"
            lines.append(
                f'<tr class="bad"><td colspan="{len(shown) + 1}">{mark}: {html.escape(why)}'
                "</td></tr>"
            )
    body = "\n".join(lines)
    return f'<div class="wide"><table><tr><th></th>{heads}</tr>\n{body}</table></div>'


def _cell(words: str) -> str:
    """Put the interval in small print."""
    value, bracket, rest = words.partition(" (")
    return f"{value}<br><small>{rest.rstrip(')')}</small>" if bracket else value


def _accuracy(report: Report) -> str:
    seen = {}
    for row in report.rows:
        who = row.contestant
        for item in row.accuracy:
            seen[f"{who.model} {who.engine} {who.precision}", item.dataset] = item
    if not seen:
        return '<h2>Accuracy</h2><p class="note">Not known: no set was given.</p>'
    lines = [
        f"<tr><td>{html.escape(who)}</td><td>{html.escape(item.dataset)}</td>"
        f'<td class="n">{item.images}</td>'
        f'<td class="n">{", ".join(f"{html.escape(n)} {v:.4f}" for n, v in item.dice.items())}</td>'
        f'<td class="n">{"–" if item.object_f1 is None else f"{item.object_f1:.4f}"}</td>'
        f"<td>{'this run' if item.origin == 'measured' else 'the bundle'}</td></tr>"
        for (who, _), item in seen.items()
    ]
    heads = '<th>variant</th><th>set</th><th class="n">images</th><th class="n">Dice</th>'
    heads += '<th class="n">F1</th><th>says</th>'
    body = "".join(lines)
    return f'<h2>Accuracy</h2><div class="wide"><table><tr>{heads}</tr>{body}</table></div>'


def _machine(report: Report) -> str:
    machine = report.machine
    facts = {k: v for k, v in machine.items() if k not in ("libraries", "cpu_flags", "gpus")}
    facts["instructions"] = " ".join(machine.get("cpu_flags") or ())
    facts |= {f"GPU {i + 1}": gpu for i, gpu in enumerate(machine.get("gpus") or ())}
    for precision, peak in report.peaks.items():
        facts[f"peak {precision}"] = peak and f"{peak.gflop_s:.0f} GFLOP/s ({peak.by})"
    facts |= {f"version of {name}": v for name, v in (machine.get("libraries") or {}).items()}
    for name, model in report.models.items():
        facts[f"model {name}"] = f"{model.name} {model.version}, sha256 {model.sha256}"
    facts["command"] = report.command
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td><td>"
        f"{html.escape('not known' if value is None else str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return (
        "<h2>Machine</h2><details><summary>processor, clocks, libraries, models</summary>"
        f'<div class="wide"><table>{lines}</table></div></details>'
    )
