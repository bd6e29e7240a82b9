"""A report's page: one HTML file, its pictures within, that asks nothing of any network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from cellseg.runtime.report.folder import RunFolder
from cellseg.runtime.report.sections import all_sections, key_facts
from cellseg.runtime.report.style import STYLE
from cellseg.runtime.writers.atomic import replacing

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["REPORT_HTML", "document", "write_page", "write_report"]

REPORT_HTML = "report.html"

# The browser itself then refuses whatever would leave the page.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"


def write_report(path: Path, target: Path | None = None) -> Path:
    """Write the report of a finished run.

    Parameters
    ----------
    path : Path
        The run's folder.
    target : Path, optional
        File to write; by default ``report.html`` in that folder.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    StoreError
        If there is no run, or the disk is full.
    """
    with RunFolder(path) as folder:
        body = (
            f'<h1>{escape(folder.title)}</h1><p class="dim">{escape(_line(folder))}</p>'
            f"{key_facts(folder.run)}\n{all_sections(folder)}"
        )
        return write_page(target or path / REPORT_HTML, document(folder.title, body))


def document(title: str, body: str) -> str:
    """Return a whole HTML document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>cellseg: {escape(title)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def write_page(target: Path, text: str) -> Path:
    """Write a page under its name when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    return target


def _line(folder: RunFolder) -> str:
    model = folder.run["model"]
    return f"{model['name']} {model['version']}, cellseg {folder.run['provenance']['cellseg']}"
