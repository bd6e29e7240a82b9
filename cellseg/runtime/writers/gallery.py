"""A gallery of cells by class, and how large they are: two pictures of single cells."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cellseg.runtime.pictures.gallery import Gallery, draw_gallery
from cellseg.runtime.pictures.histogram import Histogram, histogram_of, histogram_svg
from cellseg.runtime.store.labels import read_padded
from cellseg.runtime.writers.columns import run_columns
from cellseg.runtime.writers.jpeg import write_jpeg

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["write_gallery", "write_histogram"]

_COLUMNS = (
    "id", "class", "x_px", "y_px", "x0_px", "y0_px", "x1_px", "y1_px", "area_px", "touches_border",
)  # fmt: skip


def write_gallery(path: Path, run: FinishedRun) -> None:
    """Write crops of up to 24 cells of each class, the smallest first, as JPEG."""
    view = run.job.view
    assert run.cells is not None  # the table says that it needs them
    labels = partial(read_padded, run.cells)
    gallery = Gallery(run_columns(run, _COLUMNS), view.l0_per_wl, run.job.shown.read, labels)
    write_jpeg(path, draw_gallery(gallery, _colours(run)))


def write_histogram(path: Path, run: FinishedRun) -> None:
    """Write how many cells have which area, bars stacked by class, as SVG."""
    has_mpp = run.job.view.mpp is not None
    column, label = ("area_um2", "area, µm²") if has_mpp else ("area_px", "area, pixels")
    cells = run_columns(run, ("class", column))
    colours = _colours(run)
    found = histogram_of(cells[column], cells["class"], list(colours), label)
    css = {name: f"rgb({r},{g},{b})" for name, (r, g, b) in colours.items()}
    svg = histogram_svg(found or Histogram.empty(f"{label}: no cells"), css, standalone=True)
    path.write_text(svg, encoding="utf-8")


def _colours(run: FinishedRun) -> dict[str, tuple[int, int, int]]:
    classes = run.job.bundle.manifest.classes[1:]
    return {item.name: (item.color[0], item.color[1], item.color[2]) for item in classes}
