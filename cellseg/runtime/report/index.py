"""The page of several runs: one line each, with a thumbnail and the way to its own report."""

from __future__ import annotations

import os
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from cellseg.runtime.report import facts, pictures
from cellseg.runtime.report.folder import RunFolder
from cellseg.runtime.report.page import REPORT_HTML, document, write_page
from cellseg.runtime.report.sections import picture, seconds_text, section, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["write_index"]

_THUMB_PX = 160
_NAMED = 3


def write_index(folders: Sequence[Path], target: Path) -> Path:
    """Write a page that compares runs.

    Parameters
    ----------
    folders : sequence of Path
        Of finished runs; what they hold as ``report.html`` is linked to.
    target : Path
        File to write.
    """
    rows, total = [], 0
    warned: dict[str, list[str]] = {}
    for path in folders:
        with RunFolder(path) as folder:
            rows.append(_row(folder, target))
            total += facts.cell_total(folder.run) or 0
            for text in facts.warnings_of(folder):
                warned.setdefault(text, []).append(folder.title)
    heads = ("", "slide", "cells", "per mm²", "analysed, mm²", "classes", "took")
    title = f"{len(folders)} slides"
    items = "".join(_warning(text, titles) for text, titles in warned.items())
    body = (
        f'<h1>{title}</h1><p class="dim">{total:,} cells</p>'
        + section("Before you trust the numbers", f"<ul>{items}</ul>" if items else "", "warn")
        + section("Slides", table(heads, rows, (2, 3, 4, 6)))
    )
    return write_page(target, document(title, body))


def _warning(text: str, titles: Sequence[str]) -> str:
    """Say what is to be known of one slide, or of how many."""
    named = ", ".join(titles[:_NAMED])
    more = f" and {len(titles) - _NAMED} more" if len(titles) > _NAMED else ""
    return f"<li>{escape(named + more)}: {escape(text)}</li>"


def _row(folder: RunFolder, target: Path) -> tuple[str, ...]:
    run = folder.run
    overview = folder.picture("overlay.jpg")
    thumb = "" if overview is None else picture(pictures.fitted(overview, _THUMB_PX), folder.title)
    area, cells = facts.analysed_mm2(run), facts.cell_total(run)
    classes = ", ".join(
        f"{item.name} {item.area_share:.1%}"
        if item.cells is None
        else f"{item.name} {item.cells:,}"
        for item in facts.class_facts(run)
    )
    return (
        thumb,
        _link(folder, target),
        "–" if cells is None else f"{cells:,}",
        facts.density_text(run) or "–",
        "–" if area is None else f"{area:.4g}",
        escape(classes),
        seconds_text(run["wall_s"]),
    )


def _link(folder: RunFolder, target: Path) -> str:
    page = folder.path / REPORT_HTML
    if not page.is_file():
        return escape(folder.title)
    where = os.path.relpath(page.resolve(), target.parent.resolve()).replace(os.sep, "/")
    return f'<a href="{quote(where)}">{escape(folder.title)}</a>'
