"""What run.json says of a slide's cells: counts, densities, histograms, and counts by region.

Made of two passes over the records of cells, which hold no outlines; memory does not grow with
their number. A cell belongs to a region if its centroid does, and to each one where regions
overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.cells.measured import MeasuredCells
from cellseg.runtime.cells.table import CellFrame, cell_columns
from cellseg.runtime.shapes.outlines import Outlines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.shapes.roi import Roi

    Records = Callable[[], Iterator[NDArray[Any]]]

__all__ = ["Histogram", "counts_regions_of", "renamed_regions", "summarize_cells"]

_BINS = 40
_STEPS_PER_OCTAVE = 64
_OCTAVES = 64
_COVERED = 0.995
_OF_FIXED_RANGE = {"eccentricity": 1.0, "solidity": 1.0} | {
    f"mean_{name}": 255.0 for name in ("red", "green", "blue")
}
_OF_OPEN_RANGE = ("area_um2", "equivalent_diameter_um", "hematoxylin_od", "dab_od")


@dataclass(frozen=True)
class Histogram:
    """Counts in bins of equal width from 0 on; the last bin counts all that is larger, too."""

    edges: NDArray[np.floating[Any]]
    counts: NDArray[np.int64]

    def add(self, values: NDArray[Any]) -> None:
        """Count some values, in place."""
        step = self.edges[1]
        bins = np.clip(values / step, 0, len(self.counts) - 1).astype(np.int64)
        self.counts[:] += np.bincount(bins, minlength=len(self.counts))

    def as_dict(self) -> dict[str, list[Any]]:
        """Return JSON values."""
        edges = [float(f"{edge:.6g}") for edge in self.edges]
        return {"edges": edges, "counts": self.counts.tolist()}


def summarize_cells(records: Records, job: Job) -> dict[str, Any]:
    """Summarize the cells of a run.

    Parameters
    ----------
    records : callable
        Yields records of cells, `cellseg.runtime.cells.measured.MEASURED`, in any order; called
        twice.
    job : Job
        What was run.

    Returns
    -------
    dict
        ``cells_summary`` of run.json: ``total``, ``area_mm2`` and ``density_per_mm2`` (of the
        regions that alone were run, else of the tissue, else of the whole image), ``classes``,
        ``median_diameter_px`` (of the working level), ``histograms``, ``roi``. What needs a pixel
        size is null without one.
    """
    frame, names = CellFrame.of(job), job.class_names
    by_class = np.zeros(len(names), np.int64)
    by_roi = np.zeros((0 if job.roi is None else len(job.roi.regions), len(names)), np.int64)
    spans = {name: _Span() for name in _OF_OPEN_RANGE}
    diameters = _Span()
    for found in records():
        diameters.see(np.sqrt(found["area_px"] * 4 / np.pi))
        by_class += np.bincount(found["class"], minlength=len(names))
        columns = _columns(found, frame)
        for name, span in spans.items():
            span.see(columns[name])
        if job.roi is not None:
            by_roi += _count_by_region(job.roi, found, len(names))
    tops = {name: span.top() for name, span in spans.items()} | _OF_FIXED_RANGE
    area_mm2 = _area_mm2(job)
    return {
        **_counted(by_class, names, area_mm2),
        "area_mm2": _rounded(area_mm2),
        "median_diameter_px": diameters.median(),
        "histograms": {
            name: None if histogram is None else histogram.as_dict()
            for name, histogram in _histograms(records, frame, tops).items()
        },
        "roi": _of_regions(job, by_roi),
    }


def counts_regions_of(summary: dict[str, Any] | None, job: Job) -> bool:
    """Tell whether a summary counts by the regions of a job, whatever their names: by their areas.

    The same outlines may have been put together differently.
    """
    if summary is None or job.roi is None:
        return True
    return [each["area_mm2"] for each in summary["roi"]] == [
        each["area_mm2"] for each in _of_regions(job, _no_cells(job))
    ]


def renamed_regions(summary: dict[str, Any] | None, job: Job) -> list[dict[str, Any]] | None:
    """Return a summary's counts by region under the names of a job; None if they have them."""
    if summary is None or job.roi is None:
        return None
    wanted = _of_regions(job, _no_cells(job))
    found = [old | {"name": new["name"]} for old, new in zip(summary["roi"], wanted, strict=True)]
    return None if found == summary["roi"] else found


def _no_cells(job: Job) -> NDArray[np.int64]:
    assert job.roi is not None
    return np.zeros((len(job.roi.regions), len(job.class_names)), np.int64)


def _columns(found: NDArray[Any], frame: CellFrame) -> dict[str, NDArray[Any]]:
    return cell_columns(MeasuredCells(found, Outlines.none()), frame, 1)


def _histograms(
    records: Records, frame: CellFrame, tops: dict[str, float | None]
) -> dict[str, Histogram | None]:
    """Count all cells in bins up to a top each; None where nothing was measured."""
    found = {
        name: None
        if top is None
        else Histogram(np.linspace(0, top, _BINS + 1), np.zeros(_BINS, np.int64))
        for name, top in tops.items()
    }
    for lot in records():
        columns = _columns(lot, frame)
        for name, histogram in found.items():
            if histogram is not None:
                histogram.add(columns[name])
    return found


class _Span:
    """Finds where nearly all values lie, in one pass: counts in narrow bins of equal ratio."""

    def __init__(self) -> None:
        self._counts = np.zeros(_STEPS_PER_OCTAVE * _OCTAVES, np.int64)

    def see(self, values: NDArray[Any]) -> None:
        """Count some values; what is not a number is left out."""
        known = values[~np.isnan(values)].astype(np.float64)
        octave = np.log2(np.maximum(known, 2.0**-31)) + _OCTAVES // 2
        bins = np.minimum((octave * _STEPS_PER_OCTAVE).astype(np.int64), len(self._counts) - 1)
        self._counts += np.bincount(bins, minlength=len(self._counts))

    def top(self) -> float | None:
        """Return a round number above 99.5 % of the values; None if there are none."""
        top = self._below(_COVERED)
        if top is None:
            return None
        ten = 10.0 ** np.floor(np.log10(top) - 1)
        return float(np.ceil(top / ten) * ten)

    def median(self) -> float | None:
        """Return the median, to a percent; None if there are no values."""
        return _rounded(self._below(0.5), digits=3)

    def _below(self, share: float) -> float | None:
        """Return the end of the bin that holds the last of a share of the values."""
        total = self._counts.sum()
        if total == 0:
            return None
        last = int(np.searchsorted(np.cumsum(self._counts), share * total))
        return float(2.0 ** ((last + 1) / _STEPS_PER_OCTAVE - _OCTAVES // 2))


def _counted(
    by_class: NDArray[np.int64], names: list[str], area_mm2: float | None
) -> dict[str, Any]:
    total = int(by_class.sum())
    return {
        "total": total,
        "density_per_mm2": None if not area_mm2 else _rounded(total / area_mm2),
        "classes": {
            name: {"count": int(count), "fraction": _rounded(count / total) if total else None}
            for name, count in zip(names[1:], by_class[1:], strict=True)
        },
    }


def _of_regions(job: Job, by_roi: NDArray[np.int64]) -> list[dict[str, Any]]:
    if job.roi is None:
        return []
    found = []
    each = zip(job.roi.regions, job.roi.l0_areas_px, by_roi, strict=True)
    for index, (region, l0_area_px, by_class) in enumerate(each):
        area_mm2 = None if job.slide.mpp is None else l0_area_px * _px_mm2(job.slide.mpp)
        counted = _counted(by_class, job.class_names, area_mm2)
        counts = {name: facts["count"] for name, facts in counted["classes"].items()}
        fractions = {name: facts["fraction"] for name, facts in counted["classes"].items()}
        found.append(
            {
                "name": region.name or f"region {index + 1}",
                "area_mm2": _rounded(area_mm2),
                "total": counted["total"],
                "counts": counts,
                "fractions": fractions,
                "density_per_mm2": counted["density_per_mm2"],
            }
        )
    return found


def _count_by_region(roi: Roi, found: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count cells by region and class, int64 (regions, classes)."""
    y, x = found["centroid_yx"].T
    counts = [np.bincount(found["class"][inside], minlength=classes) for inside in roi.holds(y, x)]
    return np.array(counts, np.int64)


def _area_mm2(job: Job) -> float | None:
    """Return how much was looked at."""
    if job.slide.mpp is None or job.view.mpp is None:
        return None
    if job.roi is not None:
        return job.roi.l0_area_px * _px_mm2(job.slide.mpp)
    height, width = job.view.hw
    return height * width * job.mask.fraction * _px_mm2(job.view.mpp)


def _px_mm2(mpp: tuple[float, float]) -> float:
    return mpp[0] * mpp[1] * 1e-6


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")
