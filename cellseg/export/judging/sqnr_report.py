"""The int8 report: one HTML file beside the bundle, with nothing to load from elsewhere.

It answers three questions: how much of fp32 each int8 file keeps and by which ranges, which layers
are noisiest, and which were given back to float to get there. Where nobody labelled images, it
tells how far every file agrees with fp32, and that this is no quality.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from cellseg.export.judging.judging import AGREEMENT, NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cellseg.export.judging.int8 import Int8Choice
    from cellseg.export.precisions.sqnr import LayerNoise
    from cellseg.runtime.bundles.bundle import Agreement

    Agreements = Mapping[str, Sequence[Agreement]]

__all__ = ["report_html", "report_path", "write_report"]

_SHARE = "share of fp32"
_FULL_DB = 60.0  # a bar of full width: an error of a thousandth
_WORDS = {
    "u8s8": "for CPUs: unsigned activations",
    "s8s8": "for TensorRT: signed, symmetric",
    "tflite": "for LiteRT: all of it, or nothing",
}
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;
color:#1b1f24;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2.5rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #e3e6ea}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.bar{width:45%}.track{background:#eef0f3;height:.55rem;margin:.15rem 0}
.track i{display:block;height:100%}.alone i{background:#2f6fbb}.through i{background:#d08b2c}
.bad{color:#b3261e;font-weight:600}.good{color:#1d7a3d;font-weight:600}p.note{color:#57606a}
"""


def report_path(bundle: Path) -> Path:
    """Return where the report of a bundle lies: ``X.report.html`` beside ``X.cellseg``."""
    return bundle.with_suffix(".report.html")


def write_report(
    bundle: Path,
    title: str,
    choices: Sequence[Int8Choice],
    min_quality: float,
    agreements: Agreements | None = None,
) -> Path:
    """Write the report beside a bundle, whether the bundle was written or refused.

    Parameters
    ----------
    bundle : Path
        The bundle, existing or not.
    title : str
        Name and version of the model.
    choices : sequence of Int8Choice
        The int8 files.
    min_quality : float
        Share of fp32 that was asked for.
    agreements : mapping of str to sequence of Agreement, optional
        With fp32, by file, an entry an engine; for a model without labelled images.
    """
    path = report_path(bundle)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report_html(title, choices, min_quality, agreements), encoding="utf-8")
    return path


def report_html(
    title: str,
    choices: Sequence[Int8Choice],
    min_quality: float,
    agreements: Agreements | None = None,
) -> str:
    """Return the report as one HTML document."""
    name = html.escape(title)
    parts = [_agreement(agreements, min_quality)] if agreements else []
    parts += [_section(choice, min_quality) for choice in choices]
    share = f"at least {_percent(min_quality)}"
    asked = f"{share} of the fp32 quality, where files are chosen"
    asked = f"agreement with fp32 of {share}" if agreements else asked
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>int8 report: {name}</title>\n<style>{_STYLE}</style></head><body>\n"
        f"<h1>int8 report: {name}</h1>\n"
        f"<p>Asked for: {asked}.</p>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _agreement(agreements: Agreements, min_quality: float) -> str:
    """How far each file agrees with fp32, an engine a row."""
    rows = [
        _agreement_row(file, found, min_quality)
        for file, each in agreements.items()
        for found in each
    ]
    heads = ("file", "by", "tiles", "cells", "Dice", "object F1", "count drift", "the least")
    note = (
        '<p class="note">No labelled images were given. These figures hold each file against '
        "what fp32 itself finds on tiles that gave no ranges: Dice of its pixels, class by class, "
        "F1 of its cells, and how far their number drifts. They are no measure of quality: a file "
        "that repeats fp32's errors agrees with it fully. A cell that two files both get nearly "
        "right can count against agreement and not against quality, so agreement is mostly the "
        "lower figure.</p>"
    )
    return f"<h2>Agreement with fp32</h2>\n{note}\n{_table(heads, rows, text=(0, 1))}"


def _agreement_row(file: str, found: Agreement, min_quality: float) -> str:
    dice = "<br>".join(f"{html.escape(name)} {value:.4f}" for name, value in found.dice.items())
    cells = "" if found.cells is None else str(found.cells)
    f1 = "" if found.object_f1 is None else f"{found.object_f1:.4f}"
    drift = "" if found.count_drift is None else f"{found.count_drift:.2%}"
    verdict = "good" if found.kept >= min_quality else "bad"
    least = f'<span class="{verdict}">{found.kept:.4f}</span>'
    numbers = (str(found.tiles), cells, dice, f1, drift, least)
    return (
        f"<tr><td>{html.escape(file)}</td><td>{html.escape(found.engine or '')}</td>"
        + "".join(f'<td class="n">{value}</td>' for value in numbers)
        + "</tr>"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _section(choice: Int8Choice, min_quality: float) -> str:
    words = html.escape(_WORDS.get(choice.scheme, choice.scheme))
    return "\n".join(
        [
            f"<h2>{html.escape(choice.scheme)} ({words})</h2>",
            f"<p>{_verdict(choice, min_quality)}; {len(choice.model) / 1e6:.2f} MB.</p>",
            _methods(choice),
            *((_steps(choice), _layers(choice.noise)) if choice.noise else ()),
        ]
    )


def _verdict(choice: Int8Choice, min_quality: float) -> str:
    verdict = "good" if choice.kept >= min_quality else "bad"
    share = f'<span class="{verdict}">{choice.kept:.2%}</span>'
    judges = html.escape(choice.scored_on)
    if choice.scored_on.startswith(NOTHING):
        return f"What it keeps of fp32 was not measured: judged by {judges}"
    if choice.scored_on == AGREEMENT:
        return f"Agrees with fp32 to {share} on tiles held out"
    return f"Keeps {share} of fp32, judged by {judges}"


def _methods(choice: Int8Choice) -> str:
    ranked = sorted(choice.scores.items(), key=lambda item: -item[1])
    rows = [
        _row(html.escape(name) + (" (chosen)" if name == choice.method else ""), f"{score:.4f}")
        for name, score in ranked
    ]
    return _table(("ranges by", _SHARE), rows)


def _steps(choice: Int8Choice) -> str:
    if not choice.given_back:
        found = f"None of {choice.tried} layers" if choice.tried else "No layer"
        how = "gained anything by being" if choice.tried else "had to be"
        return f'<p class="note">{found} {how} given back to float.</p>'
    rows = [_row(html.escape(step.layer), f"{step.score:.4f}") for step in choice.given_back]
    return _table(("given back to float, in this order", f"{_SHARE} from then on"), rows)


def _layers(noise: Iterable[LayerNoise]) -> str:
    rows = [_layer(item) for item in noise]
    note = (
        '<p class="note">Signal to noise of each convolution\'s output, the worst first. Blue: '
        "only this layer in int8, its own fault. Orange: the whole network, what has gathered. "
        "20 dB is an error of a tenth of the signal, 40 dB of a hundredth.</p>"
    )
    return note + _table(("layer", "alone", "through", "", "weights"), rows, text=(0, 3))


def _layer(item: LayerNoise) -> str:
    alone = "float" if item.alone_db is None else f"{item.alone_db:.1f} dB"
    bars = "" if item.alone_db is None else _bar("alone", item.alone_db)
    bars += _bar("through", item.through_db)
    return (
        f'<tr><td>{html.escape(item.layer)}</td><td class="n">{alone}</td>'
        f'<td class="n">{item.through_db:.1f} dB</td><td class="bar">{bars}</td>'
        f'<td class="n">{item.weights}</td></tr>'
    )


def _bar(kind: str, decibels: float) -> str:
    width = min(100.0, max(0.0, decibels / _FULL_DB * 100))
    return f'<div class="track {kind}"><i style="width:{width:.1f}%"></i></div>'


def _row(name: str, value: str) -> str:
    return f'<tr><td>{name}</td><td class="n">{value}</td></tr>'


def _table(heads: Sequence[str], rows: Iterable[str], text: Sequence[int] = (0,)) -> str:
    cells = "".join(
        f"<th>{head}</th>" if index in text else f'<th class="n">{head}</th>'
        for index, head in enumerate(heads)
    )
    return f"<table><tr>{cells}</tr>\n" + "\n".join(rows) + "\n</table>"
