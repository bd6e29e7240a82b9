"""The table of cells: its columns, and a lot of measured cells in them.

Positions are in level-0 pixels, corners of pixels being whole numbers: the centre of the first
pixel is (0.5, 0.5). Lengths and areas are in microns, and nothing where the slide does not state
its pixel size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.cells.measured import MeasuredCells
    from cellseg.runtime.jobs.job import Job

__all__ = ["COLUMNS", "CellFrame", "CellTable", "Column", "cell_columns"]


@dataclass(frozen=True)
class Column:
    """One column of the table."""

    name: str
    """With its unit."""

    dtype: str
    """``U`` is text."""

    decimals: int
    """Digits behind the point in files of text."""

    summary: str
    """What it holds."""


COLUMNS = (
    Column("id", "u4", 0, "number in labels.ome.tif"),
    Column("class", "U", 0, "that of most of its pixels"),
    Column("class_probability", "f4", 4, "mean over its pixels; null if it was not kept"),
    Column("x_px", "f8", 2, "centroid, level-0 pixels"),
    Column("y_px", "f8", 2, "centroid, level-0 pixels"),
    Column("x0_px", "f8", 2, "box, level-0 pixels: left side"),
    Column("y0_px", "f8", 2, "upper side"),
    Column("x1_px", "f8", 2, "right side"),
    Column("y1_px", "f8", 2, "lower side"),
    Column("area_px", "u4", 0, "pixels of the working level"),
    Column("area_um2", "f4", 3, "area"),
    Column("perimeter_um", "f4", 3, "perimeter, holes included"),
    Column("equivalent_diameter_um", "f4", 3, "diameter of the disc of the same area"),
    Column("major_axis_um", "f4", 3, "of the ellipse of the same second moments"),
    Column("minor_axis_um", "f4", 3, "of the same"),
    Column("eccentricity", "f4", 4, "of the same; 0 is round"),
    Column("solidity", "f4", 4, "area over the area of the convex hull"),
    Column("mean_red", "f4", 2, "intensity, 0..255"),
    Column("mean_green", "f4", 2, "intensity, 0..255"),
    Column("mean_blue", "f4", 2, "intensity, 0..255"),
    Column("std_red", "f4", 2, "standard deviation of the intensity"),
    Column("std_green", "f4", 2, "standard deviation of the intensity"),
    Column("std_blue", "f4", 2, "standard deviation of the intensity"),
    Column("hematoxylin_od", "f4", 4, "mean optical density by stain deconvolution"),
    Column("dab_od", "f4", 4, "mean optical density by stain deconvolution"),
    Column("touches_border", "?", 0, "whether it lies at the border of the slide"),
)
"""What is known of each cell, in this order."""


@dataclass(frozen=True)
class CellFrame:
    """What turns pixels of the working level into the table's units."""

    l0_per_wl: float
    """Level-0 pixels per pixel of the working level."""

    mpp: tuple[float, float] | None
    """Microns per pixel of the working level, (x, y); None if they are not known."""

    class_names: tuple[str, ...]
    """Background first."""

    l0_hw: tuple[int, int] | None = None
    """Height and width of level 0: the last pixel of the working level may reach beyond it."""

    @classmethod
    def of(cls, job: Job) -> CellFrame:
        """Return the frame of a job."""
        base = job.slide.levels[0]
        l0_hw = base.height_px, base.width_px
        return cls(job.view.l0_per_wl, job.view.mpp, tuple(job.class_names), l0_hw)

    def l0(self, wl_xy: NDArray[Any]) -> NDArray[np.float64]:
        """Return points of the working level, (..., 2) as (x, y), in level-0 pixels."""
        found = np.asarray(wl_xy * self.l0_per_wl, np.float64)
        return found if self.l0_hw is None else np.minimum(found, self.l0_hw[::-1])

    def outline_points(self, cells: MeasuredCells) -> NDArray[np.float64]:
        """Return the points of outlines in level-0 pixels, float64 (p, 2)."""
        return self.l0(cells.outlines.wl_points(cells.records["box"]))


class CellTable(Mapping[str, "NDArray[Any]"]):
    """Columns of cells by name, one row a cell, sorted by id; ``len`` counts the columns.

    Parameters
    ----------
    columns : mapping of str to array
        All of one length.

    Attributes
    ----------
    cell_count : int
        Rows.

    Examples
    --------
    >>> table = CellTable({"id": np.array([1, 2]), "area_um2": np.array([20.5, 31.0])})
    >>> table.cell_count, float(table["area_um2"].mean())
    (2, 25.75)
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._columns = dict(columns)
        self.cell_count = len(next(iter(self._columns.values()), ()))

    @classmethod
    def of(cls, cells: MeasuredCells, frame: CellFrame) -> CellTable:
        """Return the table of measured cells, which are numbered 1..n."""
        columns = cell_columns(cells, frame, 1)
        names = np.array(frame.class_names)
        return cls({**columns, "class": names[columns["class"]]})

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"CellTable({self.cell_count} cells: {', '.join(self._columns)})"


def cell_columns(cells: MeasuredCells, frame: CellFrame, first_id: int) -> dict[str, NDArray[Any]]:
    """Return the columns of measured cells; ``class`` as an index, uint8.

    Parameters
    ----------
    cells : MeasuredCells
    frame : CellFrame
    first_id : int
        Number of the first of them.
    """
    found = cells.records
    x, y = frame.l0(found["centroid_yx"][:, ::-1]).T
    (x0, y0), (x1, y1) = frame.l0(found["box"][:, 1::-1]).T, frame.l0(found["box"][:, :1:-1]).T
    columns: dict[str, Any] = {
        "id": np.arange(first_id, first_id + len(found)),
        "class": found["class"],
        "class_probability": found["class_probability"],
        **{"x_px": x, "y_px": y, "x0_px": x0, "y0_px": y0, "x1_px": x1, "y1_px": y1},
        "area_px": found["area_px"],
        **_in_microns(found, frame.mpp),
        **{name: found[name] for name in ("eccentricity", "solidity", "touches_border")},
        **{f"mean_{name}": found["mean_rgb"][:, i] for i, name in enumerate(_CHANNELS)},
        **{f"std_{name}": found["std_rgb"][:, i] for i, name in enumerate(_CHANNELS)},
        **{f"{name}_od": found["stain_od"][:, i] for i, name in enumerate(_STAINS)},
    }
    return {
        column.name: np.ascontiguousarray(
            columns[column.name], "u1" if column.dtype == "U" else column.dtype
        )
        for column in COLUMNS
    }


_CHANNELS = ("red", "green", "blue")
_STAINS = ("hematoxylin", "dab")


def _in_microns(
    found: NDArray[Any], mpp: tuple[float, float] | None
) -> dict[str, NDArray[np.float64]]:
    x_um, y_um = mpp or (np.nan, np.nan)
    area_um2 = found["area_px"] * (x_um * y_um)
    axes = found["axes"] if mpp else np.full((len(found), 2), np.nan)
    return {
        "area_um2": area_um2,
        "perimeter_um": found["perimeter_px"] * np.sqrt(x_um * y_um),
        "equivalent_diameter_um": np.sqrt(area_um2 * 4 / np.pi),
        "major_axis_um": axes[:, 0],
        "minor_axis_um": axes[:, 1],
    }
