"""Cells of a finished run, measured anew from its label map: for outputs that are added later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.cells.joins import measure_large
from cellseg.runtime.cells.measured import even_lots, merged
from cellseg.runtime.cells.regions import FinishedLabeller, RegionGrid, find_cells
from cellseg.runtime.cells.runs import LARGEST_PX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellseg.runtime.cells.measure import CellMeasurer
    from cellseg.runtime.cells.measured import MeasuredCells
    from cellseg.runtime.cells.regions import RegionCells
    from cellseg.runtime.store.labels import LabelSource

__all__ = ["FileCells"]


class FileCells:
    """Cells of a label map, as a `cellseg.runtime.cells.measured.MeasuredSource`.

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
        self._labels, self._measurer, self._count = labels, measurer, count
        self._grid = RegionGrid(labels.hw)

    def __len__(self) -> int:
        return self._count

    def batches(self) -> Iterator[MeasuredCells]:
        """Yield all cells in the order of their numbers; see `MeasuredSource`."""
        yield from even_lots(self._sorted())

    def _sorted(self) -> Iterator[MeasuredCells]:
        rows, columns = self._grid.shape
        labeller = FinishedLabeller(self._labels)
        large: set[int] = set()
        for row in range(rows):
            parts = []
            for column in range(columns):
                found = find_cells(labeller, self._grid.core(row * columns + column))
                parts.append(self._own_of(found, large))
                parts += self._large_of(found, large)
            yield from merged([part for part in parts if len(part)])

    def _own_of(self, region: RegionCells, seen: set[int]) -> MeasuredCells:
        """Measure a region's own cells, but for those that another's window has cut."""
        own = self._measurer.measure_own(region)
        box = own.records["box"]
        is_large = (box[:, 2:] - box[:, :2]).max(axis=1, initial=0) > LARGEST_PX
        is_new = np.ones(len(own), bool)
        for index in np.flatnonzero(is_large):
            number = self._number_at(int(own.records["first"][index]))
            is_new[index] = number not in seen
            seen.add(number)
        return own if is_new.all() else own.taken(np.flatnonzero(is_new))

    def _large_of(self, region: RegionCells, seen: set[int]) -> Iterator[MeasuredCells]:
        """Yield the cells that this window does not hold whole, with the first of their pieces."""
        for first in region.first[region.is_cut].tolist():
            number = self._number_at(first)
            if number not in seen:
                seen.add(number)
                yield measure_large(self._labels, number, [first], self._grid, self._measurer)

    def _number_at(self, pixel: int) -> int:
        y, x = divmod(pixel, self._labels.hw[1])
        return int(self._labels.read(y, x, 1, 1)[0, 0])
