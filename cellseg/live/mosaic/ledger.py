"""Cells counted once while a scan goes on, whatever frames show them.

A cell is counted in the first frame that shows it whole. One that a frame's border cuts waits: if
another frame shows the place, it is that frame's to count; if none ever does, it lies at the edge
of the scan and counts as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CellLedger"]

_WOBBLE_PX = 2.0  # by so much the border of a cell may differ between two frames
_INSIDE_PX = 8.0  # so far from a border the middle of a cut cell is seen whole by another frame


class CellLedger:
    """Counts the cells of overlapping frames.

    Parameters
    ----------
    class_count : int
        Classes, background included.
    """

    def __init__(self, class_count: int) -> None:
        self._whole = np.zeros(class_count, np.int64)
        self._cut_boxes: NDArray[np.float64] = np.zeros((0, 4))
        self._cut_class: NDArray[np.int64] = np.zeros(0, np.int64)
        self._starts = np.zeros((0, 2))
        self._stops = np.zeros((0, 2))

    @property
    def counts(self) -> NDArray[np.int64]:
        """Cells so far by class, shape (class_count,)."""
        waiting = np.bincount(self._cut_class, minlength=len(self._whole))
        return np.asarray(self._whole + waiting, np.int64)

    def add(self, cells: NDArray[Any], yx: tuple[float, float], hw: tuple[int, ...]) -> None:
        """Count what is new in a frame.

        Parameters
        ----------
        cells : CELL_DTYPE, shape (n,)
            Its cells.
        yx, hw : (float, float), (int, int)
            Where it lies, and how large it is, in the same pixels.
        """
        start, stop = np.array(yx, float), np.add(yx, hw)
        corner = np.stack([cells["y0_px"], cells["x0_px"]], 1) + start
        end = np.stack([cells["y1_px"], cells["x1_px"]], 1) + start
        middle = np.stack([cells["y_px"], cells["x_px"]], 1) + start
        is_cut = ~((corner >= start + _WOBBLE_PX) & (end <= stop - _WOBBLE_PX)).all(axis=1)
        was_whole = self._is_inside(corner, end, _WOBBLE_PX)
        was_seen = self._is_inside(middle, middle, _INSIDE_PX)
        kind = cells["class_index"].astype(np.int64)
        counted = kind[~is_cut & ~was_whole]
        self._whole += np.bincount(counted, minlength=len(self._whole))
        self._let_go(start, stop)
        waits = is_cut & ~was_seen & ~self._is_among_cut(middle)
        self._cut_boxes = np.concatenate([self._cut_boxes, np.concatenate([corner, end], 1)[waits]])
        self._cut_class = np.concatenate([self._cut_class, kind[waits]])
        self._starts = np.concatenate([self._starts, start[None]])
        self._stops = np.concatenate([self._stops, stop[None]])

    def _is_inside(
        self, corner: NDArray[np.float64], end: NDArray[np.float64], by_px: float
    ) -> NDArray[np.bool_]:
        """Tell which boxes lie inside an earlier frame, so far from its border."""
        after = (corner[:, None] >= self._starts + by_px).all(2)
        before = (end[:, None] <= self._stops - by_px).all(2)
        return np.asarray(np.any(after & before, axis=1))

    def _is_among_cut(self, middle: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which cells lie on one that waits: at the edge of the scan, two frames cut it."""
        after = (middle[:, None] >= self._cut_boxes[:, :2] - _WOBBLE_PX).all(axis=2)
        before = (middle[:, None] <= self._cut_boxes[:, 2:] + _WOBBLE_PX).all(axis=2)
        return np.asarray(np.any(after & before, axis=1))

    def _let_go(self, start: NDArray[np.float64], stop: NDArray[np.float64]) -> None:
        """Forget cut cells that a new frame shows: it counts them itself."""
        middle = (self._cut_boxes[:, :2] + self._cut_boxes[:, 2:]) / 2
        inside = (middle >= start + _INSIDE_PX) & (middle <= stop - _INSIDE_PX)
        stays = ~inside.all(axis=1)
        self._cut_boxes, self._cut_class = self._cut_boxes[stays], self._cut_class[stays]
