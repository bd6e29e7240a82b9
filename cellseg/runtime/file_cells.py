"""Cells of a finished run, measured anew from its label map: for outputs that are added later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.runtime.measure import MeasuredCells, in_batches
from cellseg.runtime.regions import FinishedLabeller, RegionGrid, find_cells

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellseg.runtime.labels import LabelSource
    from cellseg.runtime.measure import CellMeasurer

__all__ = ["FileCells"]


class FileCells:
    """Cells of a label map, as a `cellseg.runtime.measure.MeasuredSource`.

    Parameters
    ----------
    labels : LabelSource
        Numbers 1..n in raster order of first pixels.
    measurer : CellMeasurer
        Of the same slide.
    count : int
        How many there are.
    """

    def __init__(self, labels: LabelSource, measurer: CellMeasurer, count: int) -> None:
        self._labeller, self._measurer, self._count = FinishedLabeller(labels), measurer, count
        self._grid = RegionGrid(labels.hw)

    def __len__(self) -> int:
        return self._count

    def batches(self) -> Iterator[MeasuredCells]:
        """Yield all cells in the order of their numbers; see `MeasuredSource`."""
        rows, columns = self._grid.shape
        for row in range(rows):
            cores = (self._grid.core(row * columns + column) for column in range(columns))
            parts = [self._measurer.measure_own(find_cells(self._labeller, c)) for c in cores]
            yield from in_batches(MeasuredCells.sorted([part for part in parts if len(part)]))
