"""Cells of a window, each by its runs of pixels: what telling apart hands to measuring.

Most of a slide is no cell. Runs say where cells are in a hundredth of the memory that a label map
takes, and whoever needs a map paints it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LARGEST_PX", "CellRuns"]

LARGEST_PX = 512
"""A cell of at most so many pixels along y and x lies whole in the largest window of every region
that it reaches into; what is larger may be cut by some and not by others."""


@dataclass(frozen=True, eq=False)
class CellRuns:
    """Cells 0..n-1 of a window.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        y, first column, and the column after the last; sorted by cell, those of one in raster
        order.
    starts : int32, shape (n + 1,)
        Where each cell begins in ``runs``, and the end of the last.

    Examples
    --------
    >>> found = CellRuns.of_labels(np.array([[0, 7, 7], [4, 0, 7]], np.uint32))
    >>> found.runs.tolist(), found.starts.tolist(), found.first(3).tolist()
    ([[0, 1, 3], [1, 2, 3], [1, 0, 1]], [0, 2, 3], [1, 3])
    >>> found.painted((2, 3)).tolist()
    [[0, 1, 1], [2, 0, 1]]
    """

    runs: NDArray[np.int32]
    starts: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def none(cls) -> CellRuns:
        """Return no cells."""
        return cls(np.zeros((0, 3), np.int32), np.zeros(1, np.int32))

    @classmethod
    def sorted(
        cls, runs: NDArray[np.int32], cell: NDArray[np.int32], least_px: int = 1
    ) -> CellRuns:
        """Return cells in raster order of their first pixels.

        Parameters
        ----------
        runs : int32, shape (r, 3)
            Those of a cell in raster order.
        cell : int32, shape (r,)
            Which cell each belongs to: any numbers from 0 on, memory is taken for the largest.
        least_px : int
            Cells of fewer pixels are left out.
        """
        every, area = cls.by_cell(runs, cell), np.bincount(cell, runs[:, 2] - runs[:, 1])
        kept = np.flatnonzero(area >= max(1, least_px))
        y, x = every.runs[every.starts[kept], :2].T
        return every.taken(kept[np.lexsort((x, y))])

    @classmethod
    def by_cell(cls, runs: NDArray[np.int32], cell: NDArray[np.int32]) -> CellRuns:
        """Return cells by their numbers; one without a run has none."""
        from cellseg.runtime.kernels.runs import sort_by_piece

        starts = np.empty(int(cell.max(initial=-1)) + 2, np.int32)
        order = np.empty(len(cell), np.int32)
        sort_by_piece(cell, starts, order)
        return cls(runs[order], starts)

    @classmethod
    def of_labels(cls, labels: NDArray[np.uint32]) -> CellRuns:
        """Return the cells of a label map, in raster order of their first pixels.

        Parameters
        ----------
        labels : uint32, shape (h, w)
            Any numbers, 0 = background; memory is taken for the largest.
        """
        from cellseg.runtime.kernels.runs import find_cell_runs

        runs, cell = np.empty((labels.size, 3), np.int32), np.empty(labels.size, np.int32)
        count = find_cell_runs(np.ascontiguousarray(labels), runs, cell)
        return cls.sorted(runs[:count], cell[:count])

    def first(self, width: int) -> NDArray[np.int64]:
        """Return the first pixel of each cell, ``y * width + x``."""
        y, x = self.runs[self.starts[:-1], :2].T.astype(np.int64)
        return np.asarray(y * width + x)

    @property
    def counts(self) -> NDArray[np.int32]:
        """Runs of each cell."""
        return np.diff(self.starts)

    @property
    def area_px(self) -> NDArray[np.int64]:
        """Pixels of each cell."""
        ends = np.concatenate(([0], np.cumsum(self.runs[:, 2] - self.runs[:, 1], dtype=np.int64)))
        return np.diff(ends[self.starts])

    @property
    def boxes(self) -> NDArray[np.int64]:
        """Box of each cell: y0, x0, y1, x1, half open, int64 (n, 4)."""
        from cellseg.runtime.kernels.runs import find_boxes

        boxes = np.empty((len(self), 4), np.int64)
        find_boxes(self.runs, self.starts, boxes)
        return boxes

    @property
    def centroid_yx(self) -> NDArray[np.float64]:
        """Centroid of each cell, float64 (n, 2); corners of pixels are whole numbers.

        The numbers are those of `cellseg.runtime.cells.measure`, to the last bit.
        """
        if not len(self):
            return np.zeros((0, 2))
        y, x0, x1 = self.runs.astype(np.int64).T
        sums = np.stack([y * (x1 - x0), (x0 + x1 - 1) * (x1 - x0) // 2], axis=1)
        sums = np.add.reduceat(sums, self.starts[:-1].astype(np.int64), axis=0)
        area, corner = self.area_px[:, None], self.boxes[:, :2]
        return np.asarray((sums - corner * area) / area + corner + 0.5)

    def taken(self, cells: NDArray[np.int64]) -> CellRuns:
        """Return some cells, each at most once, in another order."""
        from cellseg.runtime.kernels.runs import take_runs

        runs = np.empty((int(self.counts[cells].sum()), 3), np.int32)
        starts = np.empty(len(cells) + 1, np.int32)
        take_runs(self.runs, self.starts, cells, runs, starts)
        return CellRuns(runs, starts)

    def where(self, kept: NDArray[np.bool_]) -> CellRuns:
        """Return the cells for which ``kept`` holds, in order; themselves if it holds for all."""
        return self if kept.all() else self.taken(np.flatnonzero(kept))

    def cropped(self, box: tuple[int, int, int, int]) -> CellRuns:
        """Return the same cells as they are in a part, y0, x0, y1, x1, of the window.

        Places are the part's own; a cell that does not reach into it has no runs.
        """
        from cellseg.runtime.kernels.runs import crop_runs

        runs, starts = np.empty_like(self.runs), np.empty_like(self.starts)
        return CellRuns(runs[: crop_runs(self.runs, self.starts, box, runs, starts)], starts)

    def painted(
        self,
        hw: tuple[int, ...],
        numbers: NDArray[np.uint32] | None = None,
        out: NDArray[np.uint32] | None = None,
    ) -> NDArray[np.uint32]:
        """Return a label map.

        Parameters
        ----------
        hw : (int, int)
            Height and width of the window.
        numbers : uint32, shape (n,), optional
            Number of each cell; by default 1..n.
        out : uint32, shape hw, optional
            Where to write.
        """
        from cellseg.runtime.kernels.runs import paint_runs

        out = np.empty(hw, np.uint32) if out is None else out
        out[:] = 0
        numbers = np.arange(1, len(self) + 1, dtype=np.uint32) if numbers is None else numbers
        paint_runs(self.runs, self.starts, numbers, out)
        return out
