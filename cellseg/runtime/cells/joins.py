"""Cells that are larger than any region's window: pieces put together, and measured as one.

A piece is what a core holds of such a cell, named by its first pixel there. Its region saw where
the cell goes on in the next core, and says so by a link to a pixel there; whatever cell or piece
that pixel belongs to in its own region is the same cell. Union-find over names gives each cell the
least of its names: its own first pixel.

A cell is measured on a map of its box. Where the box has more than 8 megapixels, every k-th pixel
of it is looked at along both axes, and the cell is as it were a k times smaller one: its outline,
shape and intensities are as coarse as that. Its area, box and centroid are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellseg.runtime.cells.measured import MeasuredCells
from cellseg.runtime.cells.runs import CellRuns
from cellseg.runtime.store.labels import windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.cells.measure import CellMeasurer
    from cellseg.runtime.cells.regions import RegionGrid
    from cellseg.runtime.store.labels import LabelSource

__all__ = ["Joins", "join_pieces", "measure_large"]

_MOST_PX = 1 << 23
_BLOCK_PX = 1024
_SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))


class Readable(Protocol):
    """A map or a picture, read by window."""

    def read(self, y0: int, x0: int, h: int, w: int, /) -> NDArray[Any]:
        """Return a window, shape (h, w) or (h, w, 3)."""
        ...


@dataclass(frozen=True, eq=False)
class Joins:
    """Names of pieces, and of the whole cells that they belong to.

    Parameters
    ----------
    names : int64, shape (n,)
        Ascending; pieces, and what other regions call the same cells.
    cells : int64, shape (n,)
        First pixel of the whole cell.
    """

    names: NDArray[np.int64]
    cells: NDArray[np.int64]

    @property
    def roots(self) -> NDArray[np.int64]:
        """First pixels of the cells that were put together, ascending."""
        return np.unique(self.cells)

    def names_of(self, root: int) -> list[int]:
        """Return the names of one of the cells that were put together, its first pixel first."""
        return [root, *self.names[(self.cells == root) & (self.names != root)].tolist()]

    def resolved(self, names: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return names with those of pieces replaced by those of whole cells."""
        if not len(self.names):
            return names
        place = np.minimum(np.searchsorted(self.names, names), len(self.names) - 1)
        return np.where(self.names[place] == names, self.cells[place], names)


def join_pieces(
    pieces: Iterable[int],
    links: Iterable[tuple[int, int]],
    name_at: Callable[[int], int | None],
) -> Joins:
    """Put pieces together.

    Parameters
    ----------
    pieces : iterable of int
        Names of all pieces.
    links : iterable of (int, int)
        Name of a piece, and a pixel of the same cell in another region.
    name_at : callable
        Gives the name of the cell or piece at a pixel in that pixel's own region; None if it has
        none there.

    Examples
    --------
    >>> found = join_pieces([5, 9, 20], [(20, 11), (9, 21)], {11: 9, 21: 20}.get)
    >>> found.names.tolist(), found.cells.tolist()
    ([5, 9, 20], [5, 9, 9])
    """
    parent = {name: name for name in pieces}

    def root(name: int) -> int:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for name, pixel in links:
        other = name_at(pixel)
        if other is not None:
            low, high = sorted((root(name), root(other)))
            parent[high] = low
    names = sorted(parent)
    return Joins(np.array(names, np.int64), np.array([root(name) for name in names], np.int64))


def measure_large(
    labels: LabelSource,
    number: int,
    names: Sequence[int],
    grid: RegionGrid,
    measurer: CellMeasurer,
) -> MeasuredCells:
    """Measure one cell of any size.

    Parameters
    ----------
    labels : LabelSource
        Numbers of all cells.
    number : int
        The cell's.
    names : sequence of int
        Pixels, ``y * W + x``, where it is looked for, least first. Regions may part a piece of
        foreground differently that none sees whole, so not each of them need be the cell's.
    grid : RegionGrid
        Where it is looked for, core by core.
    measurer : CellMeasurer
        Of the same slide.
    """
    extent = _Extent.of(labels, number, names, grid)
    y0, x0, y1, x1 = extent.box
    step = max(1, math.ceil(math.sqrt((y1 - y0) * (x1 - x0) / _MOST_PX)))
    every = _Every(labels, extent.box, step)
    mask = (every.read(0, 0, *every.hw) == number).astype(np.uint32)
    y, x = divmod(extent.first, labels.hw[1])
    mask[(y - y0) // step, (x - x0) // step] = 1  # of a thin cell, every k-th pixel may be none
    first = min(extent.first, names[0])
    reduced = measurer.reduced(lambda source: _Every(source, extent.box, step), step)
    found = reduced.measure(CellRuns.of_labels(mask), np.array([first]), (0, 0))
    return _at_full_size(found, extent, step, measurer)


class _Every:
    """Every k-th pixel of a box of a map or a picture."""

    def __init__(self, source: Readable, box: tuple[int, int, int, int], step: int) -> None:
        y0, x0, y1, x1 = box
        self._source, self._yx, self._step = source, (y0, x0), step
        self.hw = (-(-(y1 - y0) // step), -(-(x1 - x0) // step))
        self.dtype = np.dtype(np.uint32)

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[Any]:
        """Read block by block, so that what is left out is never in memory as a whole."""
        step, found = self._step, None
        for y, x, rows, columns in windows((h, w), max(1, _BLOCK_PX // step)):
            origin = self._yx[0] + (y0 + y) * step, self._yx[1] + (x0 + x) * step
            block = self._source.read(*origin, (rows - 1) * step + 1, (columns - 1) * step + 1)
            if found is None:
                found = np.empty((h, w, *block.shape[2:]), block.dtype)
            found[y : y + rows, x : x + columns] = block[::step, ::step]
        assert found is not None  # a window has a pixel
        return found


@dataclass(frozen=True)
class _Extent:
    """Where a cell lies."""

    box: tuple[int, int, int, int]
    area: int
    centroid_yx: tuple[float, float]
    first: int

    @classmethod
    def of(
        cls, labels: LabelSource, number: int, names: Sequence[int], grid: RegionGrid
    ) -> _Extent:
        """Look for a cell from core to core, as far as it reaches from where its names lie."""
        seen = {next(grid.touching(*divmod(name, labels.hw[1]), 1, 1)) for name in names}
        waiting = sorted(seen)
        boxes, firsts = [], []
        area = sum_y = sum_x = 0
        while waiting:
            index = waiting.pop()
            y0, x0, h, w = grid.core(index)
            mask = labels.read(y0, x0, h, w) == number
            in_rows, in_columns = mask.sum(axis=1), mask.sum(axis=0)
            rows, columns = np.flatnonzero(in_rows), np.flatnonzero(in_columns)
            if not len(rows):
                continue
            area += int(in_rows.sum())
            sum_y += int(in_rows @ np.arange(y0, y0 + h))
            sum_x += int(in_columns @ np.arange(x0, x0 + w))
            boxes.append((y0 + rows[0], x0 + columns[0], y0 + rows[-1] + 1, x0 + columns[-1] + 1))
            firsts.append((y0 + rows[0]) * labels.hw[1] + x0 + np.argmax(mask[rows[0]]))
            reached = (rows[0] == 0, rows[-1] == h - 1, columns[0] == 0, columns[-1] == w - 1)
            beside = {
                b for b, is_reached in zip(_beside(grid, index), reached, strict=True) if is_reached
            }
            beside -= seen | {-1}
            seen |= beside
            waiting += sorted(beside)
        low, high = np.array(boxes)[:, :2].min(axis=0), np.array(boxes)[:, 2:].max(axis=0)
        box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        centre = sum_y / area + 0.5, sum_x / area + 0.5
        return cls(box, area, centre, int(min(firsts)))


def _beside(grid: RegionGrid, index: int) -> list[int]:
    """Return the regions above, below, left and right; -1 where there is none."""
    row, column = divmod(index, grid.shape[1])
    places = [(row + down, column + right) for down, right in _SIDES]
    return [
        y * grid.shape[1] + x if 0 <= y < grid.shape[0] and 0 <= x < grid.shape[1] else -1
        for y, x in places
    ]


def _at_full_size(
    found: MeasuredCells, extent: _Extent, step: int, measurer: CellMeasurer
) -> MeasuredCells:
    """Return a cell that was measured on every k-th pixel as it lies in the image."""
    records, (y0, x0, y1, x1) = found.records.copy(), extent.box
    corner = found.outlines.points + 2 * records["box"][:, 1::-1]
    records["box"], records["area_px"] = extent.box, extent.area
    records["centroid_yx"] = extent.centroid_yx
    records["perimeter_px"] *= step
    if measurer.mpp is None:
        records["axes"] *= step
    height, width = measurer.hw
    records["touches_border"] = min(y0, x0) == 0 or y1 == height or x1 == width
    points = np.minimum(corner * step, (2 * (x1 - x0), 2 * (y1 - y0))).astype(np.int32)
    return MeasuredCells(records, replace(found.outlines, points=points))
