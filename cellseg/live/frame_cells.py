"""Cells of a frame: told apart, measured and counted, in memory that is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.cells.parting import CellScratch, label_cells
from cellseg.runtime.kernels.frame import measure_cells, split_channels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.jobs.job import Job

__all__ = ["CELL_DTYPE", "CellFinder", "measure"]

CELL_DTYPE = np.dtype(
    [
        ("id", np.uint32),
        ("class_index", np.uint8),
        ("x_px", np.float32),
        ("y_px", np.float32),
        ("x0_px", np.float32),
        ("y0_px", np.float32),
        ("x1_px", np.float32),
        ("y1_px", np.float32),
        ("area_px", np.int64),
        ("area_um2", np.float32),
    ]
)
"""One cell: places in pixels of the frame (corners at integers), area in working pixels; its square
microns are nan where the size of a pixel is not known."""

_FAR = np.iinfo(np.int32).max


class CellFinder:
    """Tells cells of frames of one shape apart.

    Parameters
    ----------
    job : Job
        Prepared for such a frame; its model tells cells apart.
    """

    def __init__(self, job: Job) -> None:
        rule = job.cell_rule
        assert rule is not None  # or nobody would look for cells
        self._rule = rule
        self._threshold = 0.5 if job.rule.threshold is None else job.rule.threshold
        self._scratch = CellScratch(job.view.hw)
        self._foreground = np.empty(job.view.hw, np.uint8)
        self._interior = np.empty(job.view.hw, np.uint8)

    def label(self, channels: NDArray[np.float32], out: NDArray[np.uint32]) -> int:
        """Write the label map of a frame; return the number of cells."""
        split_channels(
            channels,
            self._rule.interior_channel,
            self._threshold,
            self._rule.sure_probability,
            self._rule.min_sure > 0,
            self._foreground,
            self._interior,
        )
        foreground = self._foreground.view(np.bool_)
        return len(label_cells(foreground, self._interior, self._rule, self._scratch, out)[1])


def measure(
    labels: NDArray[np.uint32],
    classes: NDArray[np.uint8],
    count: int,
    class_count: int,
    l0_per_wl: float = 1.0,
    mpp: tuple[float, float] | None = None,
) -> NDArray[Any]:
    """Measure the cells of a label map.

    Parameters
    ----------
    labels : uint32, shape (h, w)
        Cells 1..count.
    classes : uint8, shape (h, w)
        A cell's class is that of most of its pixels, background aside.
    count : int
        Number of cells.
    class_count : int
        Number of classes, background included.
    l0_per_wl : float
        Frame pixels per pixel of the maps.
    mpp : (float, float), optional
        Microns per pixel of the maps.

    Returns
    -------
    CELL_DTYPE, shape (count,)
        Sorted by id.
    """
    sums = np.zeros((count, 3), np.int64)
    boxes = np.zeros((count, 4), np.int32)
    boxes[:, :2] = _FAR
    votes = np.zeros((count, class_count), np.int32)
    measure_cells(labels, classes, sums, boxes, votes)
    area = np.maximum(sums[:, 0], 1)
    cells = np.empty(count, CELL_DTYPE)
    cells["id"] = np.arange(1, count + 1)
    cells["class_index"] = 1 + votes[:, 1:].argmax(1) if count else 0
    cells["x_px"] = (sums[:, 1] / area + 0.5) * l0_per_wl
    cells["y_px"] = (sums[:, 2] / area + 0.5) * l0_per_wl
    for column, name in enumerate(("x0_px", "y0_px", "x1_px", "y1_px")):
        cells[name] = boxes[:, column] * l0_per_wl
    cells["area_px"] = sums[:, 0]
    cells["area_um2"] = np.nan if mpp is None else sums[:, 0] * (mpp[0] * mpp[1])
    return cells
