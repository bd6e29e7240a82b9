"""Put a generated table between two markers of a page in docs/."""

from __future__ import annotations

from pathlib import Path

from cellseg.bench.reports.markdown import fill_section

DOCS = Path(__file__).parents[1] / "docs"


def write_section(page: str, marker: str, text: str) -> None:
    """Replace what stands between ``<!-- marker:begin -->`` and ``<!-- marker:end -->``."""
    if not fill_section(DOCS / page, marker, text):
        raise SystemExit(f"{page} has no section {marker}")
