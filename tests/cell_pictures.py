"""Cells to measure: labels of random blobs, rings, single pixels, and a picture under them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from skimage.measure import label

from cellseg.runtime.cells.measure import CellMeasurer
from cellseg.runtime.cells.measured import MeasuredCells
from cellseg.runtime.cells.runs import CellRuns
from cellseg.runtime.kernels.runs import find_runs
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.labels import ArrayLabels
from cellseg.runtime.view.working import WorkingView

if TYPE_CHECKING:
    from numpy.typing import NDArray


def blobs(seed: int, hw: tuple[int, int] = (96, 120)) -> NDArray[np.uint32]:
    """Labels 1..n in raster order: 4-connected pieces of smoothed noise, with holes and notches."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(size=hw)
    smooth = sum(np.roll(rough, shift, (0, 1)) for shift in [(0, 0), (0, 1), (1, 0), (1, 1)])
    return np.asarray(label(smooth > 0.7, connectivity=1), np.uint32)


def first_pixels(labels: NDArray[np.uint32]) -> NDArray[np.int64]:
    """First pixel of each label, in raster order."""
    return np.unique(labels, return_index=True)[1][1:].astype(np.int64)


def runs_of(foreground: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the runs of an image and their pieces, by the kernel."""
    most = foreground.shape[0] * ((foreground.shape[1] + 1) // 2)
    runs, piece = np.empty((most, 3), np.int32), np.empty(most, np.int32)
    count, _ = find_runs(foreground.astype(np.uint8), runs, piece)
    return runs[:count], piece[:count]


def measured(
    labels: NDArray[np.uint32],
    rgb: NDArray[np.uint8] | None = None,
    mpp: tuple[float, float] | None = None,
    tolerance_px: float = 0.5,
) -> MeasuredCells:
    """Measure all cells of an image, labels 1..n in raster order."""
    picture = np.zeros((*labels.shape, 3), np.uint8) if rgb is None else rgb
    view = WorkingView(ArraySlide(picture, mpp), None)
    classes = ArrayLabels((labels > 0).astype(np.uint8))
    measurer = CellMeasurer(view, classes, 2, tolerance_px=tolerance_px)
    return measurer.measure(CellRuns.of_labels(labels), first_pixels(labels), (0, 0))
