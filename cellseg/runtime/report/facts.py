"""Numbers of a run as a report says them, whatever the run knew: areas, densities, warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.cells.runs import LARGEST_PX

if TYPE_CHECKING:
    from cellseg.runtime.report.folder import RunFolder

__all__ = [
    "ClassFacts",
    "analysed_mm2",
    "analysed_part",
    "cell_total",
    "channel_text",
    "class_facts",
    "density_text",
    "warnings_of",
]

_GIANT = 20.0
"""Times the median area from which on a cell is looked at twice."""


@dataclass(frozen=True)
class ClassFacts:
    """One class of a run."""

    name: str
    """Its name."""
    cells: int | None
    """Cells; None where they were not told apart."""
    share: float | None
    """Of all cells."""
    density: float | None
    """Cells per mm² of what was analysed."""
    area_mm2: float | None
    """Area of its pixels."""
    area_share: float
    """Its pixels by those of what was analysed."""


def cell_total(run: dict[str, Any]) -> int | None:
    """Return the number of cells; None where they were not told apart."""
    return None if run.get("cells") is None else sum(run["cells"].values())


def analysed_mm2(run: dict[str, Any]) -> float | None:
    """Return the area that densities refer to: regions that were drawn, else tissue, in mm²."""
    mpp = run["input"].get("mpp_xy")
    if mpp is None:
        return None
    part = analysed_part(run)
    if part == "regions":
        return float(run["roi"]["area_mm2"])
    whole = run["input"]["width_px"] * mpp[0] * run["input"]["height_px"] * mpp[1] * 1e-6
    return float(whole * (run["plan"]["tissue_fraction"] if part == "tissue" else 1.0))


def analysed_part(run: dict[str, Any]) -> str:
    """Return what areas and densities refer to: ``regions``, ``tissue`` or ``image``."""
    if run.get("roi"):
        return "regions"
    return "image" if run["plan"].get("tissue_fraction") is None else "tissue"


def class_facts(run: dict[str, Any]) -> list[ClassFacts]:
    """Return what is known of each class but background."""
    total, density = cell_total(run), _density(run)
    pixels = sum(entry["pixels"] for entry in run["classes"].values())
    if analysed_part(run) == "tissue":  # beyond it all pixels are background
        pixels *= run["plan"]["tissue_fraction"]
    found = []
    for name, entry in list(run["classes"].items())[1:]:
        cells = None if run.get("cells") is None else int(run["cells"].get(name, 0))
        share = cells / total if cells is not None and total else None
        found.append(
            ClassFacts(
                name=name,
                cells=cells,
                share=share,
                density=None if share is None or density is None else share * density,
                area_mm2=entry["area_mm2"],
                area_share=entry["pixels"] / max(1, pixels),
            )
        )
    return found


def density_text(run: dict[str, Any]) -> str | None:
    """Return cells per mm² in a few digits; None where there is no pixel size or no cell."""
    density = _density(run)
    return None if density is None else f"{density:,.0f}" if density >= 10 else f"{density:.2g}"


def channel_text(run: dict[str, Any]) -> str | None:
    """Return number and name of the channel that was read alone; None where there was no choice."""
    number, name = (run["input"].get(key) for key in ("channel", "channel_name"))
    return None if number is None else f"{number} ({name})" if name else f"{number}"


def warnings_of(folder: RunFolder) -> list[str]:
    """Return what a reader should know before trusting the numbers, most serious first."""
    run = folder.run
    found = (_damage(run), _no_scale(run), _large(run), _doubtful(folder), _nothing(run))
    of_cells = (run.get("cells_summary") or {}).get("doubts", [])
    return [text for text in found if text] + [*of_cells, *run["input"].get("doubts", [])]


def _density(run: dict[str, Any]) -> float | None:
    summary = run.get("cells_summary")
    if summary and summary.get("density_per_mm2") is not None:
        return float(summary["density_per_mm2"])
    total, area = cell_total(run), analysed_mm2(run)
    return None if total is None or not area else total / area


def _damage(run: dict[str, Any]) -> str | None:
    damaged = run["input"].get("damaged_tiles", {"count": 0})
    if not damaged["count"]:
        return None
    first = damaged["list"][0]
    return (
        f"{damaged['count']} stored tiles of the slide are damaged and were taken for background, "
        f"the first at level {first['level']}, row {first['row']}, column {first['column']}."
    )


def _no_scale(run: dict[str, Any]) -> str | None:
    if run["input"].get("mpp") is not None:
        return None
    return "The slide does not say how large its pixels are: there are no areas, only pixels."


def _large(run: dict[str, Any]) -> str | None:
    count = (run.get("cells_summary") or {}).get("larger_than_a_region")
    if not count:
        return None
    cells = "1 cell is" if count == 1 else f"{count} cells are"
    return f"{cells} more than {LARGEST_PX} pixels long: hardly a cell."


def _doubtful(folder: RunFolder) -> str | None:
    """Name cells far larger than the others: clumps, folds, pen marks."""
    cells = folder.cells
    if cells is None or len(cells["id"]) < 20:
        return None
    area = np.asarray(cells["area_px"], np.float64)
    median = float(np.median(area))
    giants = np.flatnonzero(area > _GIANT * median)
    if not giants.size:
        return None
    largest = int(area.argmax())
    where = f"x={cells['x_px'][largest]:.0f}, y={cells['y_px'][largest]:.0f}"
    count = "1 cell is" if giants.size == 1 else f"{giants.size} cells are"
    return (
        f"{count} more than {_GIANT:.0f} times as large as the median cell: clumps, folds, marks? "
        f"The largest is cell {int(cells['id'][largest])} at {where} (level-0 pixels)."
    )


def _nothing(run: dict[str, Any]) -> str | None:
    total = cell_total(run)
    if total == 0:
        return "No cells were found."
    if total is None and not any(entry["pixels"] for entry in list(run["classes"].values())[1:]):
        return "Nothing but background was found."
    return None
