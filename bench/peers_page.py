"""What `bench/peers.py` found, as Markdown and as one HTML page; both are made from its JSON."""

from __future__ import annotations

import html
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contest import spread, words_of_machine

from cellseg.bench.reports.markdown import table
from cellseg.bench.reports.page import document
from cellseg.bench.reports.plots import Bar, value_bars

if TYPE_CHECKING:
    from collections.abc import Sequence

Record = dict[str, Any]
NOT_KNOWN = "-"


@dataclass(frozen=True)
class Table:
    """Heads and lines, the first column being a name."""

    heads: Sequence[str]
    lines: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return it as Markdown."""
        return table(self.heads, self.lines)

    def html(self) -> str:
        """Return it as HTML."""
        heads = "".join(_cell("th", i, words) for i, words in enumerate(self.heads))
        lines = [
            "".join(_cell("td", i, words) for i, words in enumerate(line)) for line in self.lines
        ]
        body = "\n".join(f"<tr>{line}</tr>" for line in lines)
        return f'<div class="wide"><table><tr>{heads}</tr>\n{body}</table></div>'


def _cell(tag: str, column: int, words: str) -> str:
    kind = ' class="n"' if column else ""
    value, bracket, rest = words.partition(" (")
    small = f"<br><small>{html.escape(rest.rstrip(')'))}</small>" if bracket else ""
    return f"<{tag}{kind}>{html.escape(value)}{small}</{tag}>"


# --- what the tables say -------------------------------------------------------------------------


def done(record: Record) -> list[Record]:
    """Return the rows that have been measured."""
    return [row for row in record["rows"] if row["tally"]["seconds"]]


def seconds(row: Record) -> float:
    """Return the median of a row's rounds."""
    return statistics.median(row["tally"]["seconds"])


def speed(record: Record) -> Table:
    """Time, processor time, memory and disk; ratios are of medians of the same run."""
    mine = {row["contestant"]["name"]: seconds(row) for row in done(record)}
    ours = [mine.get(f"cellseg {precision}") for precision in ("fp32", "int8")]
    height, width = record["slide_hw"]
    lines = []
    for row in done(record):
        who, took, tally = row["contestant"], seconds(row), row["tally"]
        ratios = [NOT_KNOWN if own is None else f"{took / own:.2f}x" for own in ours]
        lines.append([
            who["name"], who["precision"], _patch(who), spread(tally["seconds"], 1),
            f"{height * width / 1e6 / took:.2f}", *ratios,
            _known(tally["cpu_s"] and statistics.median(tally["cpu_s"]), "{:.1f}"),
            f"{max(tally['peak_rss_mb']):.0f} MB", _known(row["result_mb"], "{:.1f} MB"),
        ])  # fmt: skip
    heads = [
        "contestant", "precision", "patch, overlap", "seconds", "MP/s",
        "cellseg fp32 is faster by", "cellseg int8 is faster by", "processor, s", "peak RSS",
        "class map",
    ]  # fmt: skip
    return Table(heads, lines)


def agreement(record: Record) -> Table:
    """How the class maps differ from the untiled one and from the truth."""
    lines = [
        [
            row["contestant"]["name"], row["contestant"]["precision"],
            f"{row['flipped_per_million']:.1f}", f"{row['flipped_inside_per_million']:.1f}",
            f"{row['dice']:.5f}", _known(row["truth_dice"], "{:.4f}"),
            _known(row["lost"], "{}"), _known(row["doubled"], "{}"),
        ]
        for row in done(record)
    ]  # fmt: skip
    cells = max((row["cells"] or 0 for row in done(record)), default=0)
    heads = [
        "contestant", "precision", "flipped px per million", "of them inside", "Dice, untiled",
        "Dice, truth", f"lost of {cells} cells" if cells else "lost cells", "doubled",
    ]  # fmt: skip
    return Table(heads, lines)


def engines_alone(record: Record) -> Table:
    """Our adapters beside the engines' own programs; the last column is ours by theirs."""
    rows = record["engines"]["rows"]
    own = {(r["engine"], r["precision"]): statistics.median(r["mpx_s"])
           for r in rows if r["program"] == "cellseg" and r["mpx_s"]}  # fmt: skip
    lines = []
    for row in rows:
        who = [f"{row['engine']} {row['precision']}", row["program"]]
        if row["failure"] or not row["mpx_s"]:
            lines.append([*who, row["failure"] or "not run", NOT_KNOWN])
            continue
        mine = own.get((row["engine"], row["precision"]))
        theirs = statistics.median(row["mpx_s"])
        share = NOT_KNOWN if mine is None else f"{mine / theirs:.0%}"
        lines.append([*who, spread(row["mpx_s"]), share])
    return Table(["engine", "by", "MP/s of input", "cellseg's adapter, of it"], lines)


def absent(record: Record) -> list[str]:
    """Say who has no numbers, and why."""
    return [
        f"{row['contestant']['name']}: {row['failure']}" for row in record["rows"] if row["failure"]
    ]


def _known(value: Any, form: str) -> str:
    return NOT_KNOWN if value is None or value == [] else form.format(value)


def _patch(who: Record) -> str:
    return f"{who['patch_px']}, {100 * who['overlap']:.1f} %" if who["patch_px"] else "own choice"


def _head(record: Record) -> str:
    height, width = record["slide_hw"]
    model = record["model"]
    return (
        f"{words_of_machine(record['machine'])}. {model['name']} {model['version']} on "
        f"{record['slide']}, {height * width / 1e6:.0f} MP, "
        f"{record['threads']} threads; {record['rounds']} rounds, medians (smallest to largest), "
        f"contestants taking turns. Held against {record['held_against']}."
    )


# --- pages ---------------------------------------------------------------------------------------


def peers_markdown(record: Record) -> str:
    """Return both tables of the contestants and who is absent."""
    parts = [_head(record), speed(record).markdown(), agreement(record).markdown()]
    missing = [f"- {text}" for text in absent(record)]
    if missing:
        parts.append("\n".join(["Not measured:", "", *missing]))
    return "\n\n".join(parts)


def engines_markdown(record: Record) -> str:
    """Return the table of the engines alone."""
    if record["engines"] is None:
        return "Not measured yet."
    head = f"{words_of_machine(record['machine'])}. Tile {record['engines']['tile_px']}."
    return f"{head}\n\n{engines_alone(record).markdown()}"


def peers_html(record: Record) -> str:
    """Return everything as one HTML document that loads nothing."""
    model = record["model"]
    body = [
        "<h1>cellseg and others, same network and slide</h1>",
        f"<p>{html.escape(_head(record))}</p>",
        f'<p class="note">Network {html.escape(model["name"])} {html.escape(model["version"])}, '
        f"sha256 {model['sha256'][:16]}, in the form that each takes. What each contestant "
        "does, and what is counted, stands in docs/benchmarks.md; raw numbers in peers.json.</p>",
        "<h2>Time and memory</h2>",
        _plots(record),
        speed(record).html(),
        "<h2>What tiling does to the result</h2>",
        _harm(record),
        agreement(record).html(),
    ]
    if record["engines"] is not None:
        body += ["<h2>Engines alone, by their own programs</h2>", engines_alone(record).html()]
    missing = "".join(f"<li>{html.escape(text)}</li>" for text in absent(record))
    if missing:
        body.append(f"<h2>Not measured</h2><ul>{missing}</ul>")
    return document("cellseg and others", "\n".join(body))


KEY = '<ul class="key"><li><i class="c0"></i>cellseg</li><li><i class="c1"></i>others</li></ul>'
QUANTIZED = "What int8 loses or doubles comes from its rounding, not from seams."


def _plots(record: Record) -> str:
    took = [Bar(_name(row), seconds(row), _colour(row)) for row in done(record)]
    memory = [
        Bar(_name(row), max(row["tally"]["peak_rss_mb"]), _colour(row)) for row in done(record)
    ]
    return (
        f"{KEY}<figure>{value_bars(took, 'seconds, median', 'Seconds for the slide')}</figure>"
        f"<figure>{value_bars(memory, 'MB, the most in memory', 'Peak memory')}</figure>"
    )


def _harm(record: Record) -> str:
    bars = [
        Bar(_name(row), row["lost"] + row["doubled"], _colour(row))
        for row in done(record)
        if row["lost"] is not None
    ]
    plot = value_bars(bars, "cells lost or doubled", "Cells lost or doubled")
    return f"{KEY}<figure>{plot}<figcaption>{QUANTIZED}</figcaption></figure>" if plot else ""


def _name(row: Record) -> str:
    return str(row["contestant"]["name"])


def _colour(row: Record) -> int:
    return 0 if row["contestant"]["environment"] == "ours" else 1
