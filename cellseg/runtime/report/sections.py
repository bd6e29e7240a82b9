"""The parts of a report's page, each as HTML; a part that has nothing to show is empty."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.pictures.density import density_colours
from cellseg.runtime.pictures.histogram import Histogram, histogram_of, histogram_svg
from cellseg.runtime.pictures.marks import number_text
from cellseg.runtime.report import facts, pictures

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.report.folder import RunFolder

__all__ = ["all_sections", "key_facts", "picture", "section", "table"]

_CHARTS = (
    ("area_um2", "area, µm²"),
    ("equivalent_diameter_um", "equivalent diameter, µm"),
    ("eccentricity", "eccentricity (0 is round)"),
    ("solidity", "solidity (1 is convex)"),
    ("hematoxylin_od", "hematoxylin, mean optical density"),
    ("dab_od", "DAB, mean optical density"),
)
_ALL_CLASSES = "all classes"  # what run.json keeps is not counted by class
_NO_SCALE_CHARTS = (("area_px", "area, pixels"), *_CHARTS[2:])


def all_sections(folder: RunFolder) -> str:
    """Return all parts below the head of the page."""
    parts = (
        _warnings(folder), _pictures(folder), _classes(folder), _regions(folder),
        _charts(folder), _galleries(folder), _engine(folder), _provenance(folder),
    )  # fmt: skip
    return "\n".join(part for part in parts if part)


def key_facts(run: dict[str, Any]) -> str:
    """Return the few numbers that are read first."""
    total, density, area = facts.cell_total(run), facts.density_text(run), facts.analysed_mm2(run)
    where = {"regions": "in the regions", "tissue": "of tissue", "image": "in all"}
    shown = [
        None if total is None else (f"{total:,}", "cells"),
        None if density is None else (density, "cells per mm²"),
        None if area is None else (f"{area:.4g} mm²", where[facts.analysed_part(run)]),
        (f"{run['input']['width_px']:,} × {run['input']['height_px']:,}", "pixels"),
        None if run["input"]["mpp"] is None else (f"{run['input']['mpp']:.4g} µm", "per pixel"),
        (seconds_text(run["wall_s"]), f"{run['throughput_mpx_s']:.3g} megapixels/s"),
    ]
    cards = "".join(
        f'<div class="fact"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for value, label in filter(None, shown)
    )
    return f'<div class="facts">{cards}</div>'


def seconds_text(seconds: float) -> str:
    """Return a duration in the units that suit it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def section(title: str, body: str, kind: str = "") -> str:
    """Return a titled part; nothing without a body."""
    if not body:
        return ""
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{body}</section>'


def picture(rgb: NDArray[Any], words: str, caption: str = "", *, zooms: bool = False) -> str:
    """Return a picture that lies in the page itself; with ``zooms`` a click shows it alone."""
    height, width = rgb.shape[:2]
    drawn = (
        f'<img src="{pictures.data_uri(rgb)}" width="{width}" height="{height}" '
        f'alt="{escape(words)}">'
    )
    if zooms:  # a checkbox remembers it: the page runs no script
        drawn = (
            f'<label class="zoom" title="Click to enlarge"><input type="checkbox" '
            f'aria-label="Enlarge: {escape(words)}">{drawn}</label>'
        )
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{drawn}{below}</figure>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table that scrolls in itself on a narrow screen; cells are HTML already."""

    def cell(tag: str, index: int, text: str) -> str:
        kind = ' class="n"' if index in numbers else ""
        return f"<{tag}{kind}>{text}</{tag}>"

    def line(tag: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(cell(tag, i, text) for i, text in enumerate(cells))}</tr>"

    head = line("th", [escape(text) for text in heads]) if heads else ""
    return f'<div class="scroll"><table>{head}{"".join(line("td", r) for r in rows)}</table></div>'


def _warnings(folder: RunFolder) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in facts.warnings_of(folder))
    return section("Before you trust the numbers", f"<ul>{items}</ul>" if items else "", "warn")


def _pictures(folder: RunFolder) -> str:
    """Return what stands side by side on a wide screen."""
    found, heat, close = (
        pictures.overview(folder), pictures.heat_map(folder), pictures.close_up(folder),
    )  # fmt: skip
    parts = []
    if found is not None:
        words = "The slide, what was found painted on"
        parts.append(section("Overview", picture(found, words, zooms=True)))
    if heat is not None:
        drawn, density = heat
        shown = picture(drawn, "Where cells are dense", zooms=True)
        parts.append(section("Density", shown + _ramp(density.top, density.unit)))
    if close is not None:
        rgb, width_um = close
        words = f"The densest place at full resolution{_width_text(width_um)}"
        parts.append(section("Close-up", picture(rgb, words, words, zooms=True)))
    return f'<div class="grid">{"".join(parts)}</div>' if parts else ""


def _ramp(top: float, unit: str) -> str:
    colours = density_colours()[::16]
    stops = ",".join(f"rgb({r},{g},{b})" for r, g, b in colours.tolist())
    return (
        f'<div class="ramp" style="background:linear-gradient(90deg,{stops})"></div>'
        f'<div class="ends"><span>0</span><span>{number_text(top / 2)}</span>'
        f"<span>{number_text(top)} {escape(unit)}</span></div>"
    )


def _classes(folder: RunFolder) -> str:
    rows = [
        (
            _key(folder.colours[item.name]) + escape(item.name),
            _or_dash(item.cells, ","),
            _or_dash(item.share, ".1%"),
            _or_dash(item.density, ",.4g"),
            _or_dash(item.area_mm2, ".4g"),
            f"{item.area_share:.1%}",
            _track(item.area_share if item.share is None else item.share),
        )
        for item in facts.class_facts(folder.run)
    ]
    share = f"of the {facts.analysed_part(folder.run)}"
    heads = ("class", "cells", "share", "per mm²", "area, mm²", share, "")
    return section("Classes", table(heads, rows, (1, 2, 3, 4, 5)))


def _regions(folder: RunFolder) -> str:
    regions = (folder.run.get("cells_summary") or {}).get("roi") or []
    if not regions:
        return ""
    names = list(folder.colours)
    rows = [
        (
            escape(str(region.get("name") or f"region {index}")),
            _or_dash(region.get("area_mm2"), ".4g"),
            *(_count_text(region, name) for name in names),
            _or_dash(region.get("density_per_mm2"), ",.4g"),
        )
        for index, region in enumerate(regions, start=1)
    ]
    heads = ("region", "area, mm²", *names, "cells per mm²")
    return section("Regions", table(heads, rows, tuple(range(1, len(heads)))))


def _count_text(region: dict[str, Any], name: str) -> str:
    """Cells of a class in a region, and how many that is by area."""
    count, area = (region.get("counts") or {}).get(name, 0), region.get("area_mm2")
    return f"{count:,}" + (f" <small>{count / area:,.4g}/mm²</small>" if area else "")


def _charts(folder: RunFolder) -> str:
    colours = {name: f"rgb({r},{g},{b})" for name, (r, g, b) in folder.colours.items()}
    colours.setdefault(_ALL_CLASSES, "gray")
    drawn = "".join(histogram_svg(found, colours) for found in _histograms(folder))
    return section("Measurements", f'<div class="charts">{drawn}</div>' if drawn else "")


def _histograms(folder: RunFolder) -> Iterator[Histogram]:
    """Yield those of the table, class by class; without one those that run.json keeps."""
    charts = list(_NO_SCALE_CHARTS if folder.mpp is None else _CHARTS)
    if folder.run["plan"].get("ground") == "dark":  # light is emitted there, no stain absorbs it
        charts = [chart for chart in charts if not chart[0].endswith("_od")]
    cells, names = folder.cells, list(folder.colours)
    kept = (folder.run.get("cells_summary") or {}).get("histograms") or {}
    for column, label in charts:
        found = None
        if cells is not None and column in cells:
            found = histogram_of(cells[column], cells["class"], names, label)
        elif cells is None and kept.get(column):
            edges, counts = (np.array(kept[column][name]) for name in ("edges", "counts"))
            name = names[0] if len(names) == 1 else _ALL_CLASSES
            found = Histogram(label, edges, {name: counts})
        if found is not None:
            yield found


def _galleries(folder: RunFolder) -> str:
    sheets, field_um = pictures.galleries(folder)
    body = "".join(_gallery(name, sheet, folder.colours[name]) for name, sheet in sheets.items())
    note = (
        '<p class="dim">From the smallest cell to the largest, by even ranks; '
        f"every crop at one scale{_width_text(field_um)}.</p>"
    )
    return section("Gallery", body + note if body else "", "gallery")


def _width_text(width_um: float | None) -> str:
    return "" if width_um is None else f", {width_um:.3g} µm wide"


def _gallery(name: str, sheet: NDArray[Any], colour: Sequence[int]) -> str:
    drawn = picture(sheet, f"Cells of class {name}, the smallest first")
    return f'<h3>{_key(colour)}{escape(name)}</h3><div class="scroll">{drawn}</div>'


def _engine(folder: RunFolder) -> str:
    run = folder.run
    engine, plan = run["engine"], run["plan"]
    stages = {name: value for name, value in run["stages_s"].items() if value}
    longest = max(stages.values(), default=1.0)
    rows = [
        (escape(name), f"{value:.3g} s", _track(value / longest)) for name, value in stages.items()
    ]
    done = plan["tiles_total"] - plan["tiles_skipped"]
    said = [
        f"{engine['name']} {engine['precision']} on {engine['device']}",
        f"{engine['threads']} threads",
        f"{done:,} of {plan['tiles_total']:,} tiles of {_width_by_height(plan['tile_hw'])} px",
        f"halo {plan['halo_px']} px",
        f"{run['mm2_per_s']:.3g} mm²/s" if run.get("mm2_per_s") else "",
        f"{run['peak_rss_mb']:,.0f} MiB of memory" if run.get("peak_rss_mb") else "",
    ]
    words = "; ".join(filter(None, said))
    note = '<p class="dim">Busy seconds of each stage; they overlap.</p>' if rows else ""
    return section("Engine and speed", f"<p>{escape(words)}</p>{note}" + table((), rows, (1,)))


def _width_by_height(hw: Sequence[int]) -> str:
    return f"{hw[1]} x {hw[0]}"


def _provenance(folder: RunFolder) -> str:
    run = folder.run
    made, machine = run["provenance"], run["provenance"]["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in made["versions"].items())
    model = run["model"]
    rows = [
        ("slide", f"<code>{escape(str(run['input']['path']))}</code>"),
        *([("channel", escape(channel))] if (channel := facts.channel_text(run)) else []),
        ("model", escape(f"{model['name']} {model['version']}")),
        ("sha256 of the model", f"<code>{escape(model['sha256'])}</code>"),
        ("cellseg", escape(made["cellseg"])),
        ("with", escape(versions)),
        (
            "on",
            escape(f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('system')}"),
        ),
        ("command", f"<code>{escape(made['command'])}</code>"),
    ]
    files = [
        (
            f"<code>{escape(name)}</code>",
            f"{entry['bytes']:,}",
            f"<code>{escape(entry['sha256'])}</code>",
        )
        for name, entry in run["outputs"].items()
    ]
    listed = table(("file", "bytes", "sha256"), files, (1,))
    return section(
        "Provenance", table((), rows) + f"<details><summary>Files</summary>{listed}</details>"
    )


def _key(rgb: Sequence[int]) -> str:
    return f'<span class="key" style="background:rgb({rgb[0]},{rgb[1]},{rgb[2]})"></span>'


def _track(share: float) -> str:
    return f'<div class="track"><i style="width:{100 * min(1.0, max(0.0, share)):.1f}%"></i></div>'


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
