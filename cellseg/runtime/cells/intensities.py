"""Intensities of cells as they are stored: at the level that was read, in the file's own numbers.

Cells are known at the working level, which may be resampled. A pixel of the level that was read
belongs to the cell at whose working pixel its centre lies, so no value is interpolated.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.machine.ahead import in_order
from cellseg.runtime.store.labels import windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.slides.slide import Slide
    from cellseg.runtime.store.labels import LabelSource
    from cellseg.runtime.view.working import WorkingView

__all__ = ["Intensity", "cell_intensities"]

_WINDOW_PX = 1024
_LEAST_PX = 64


@dataclass(frozen=True, eq=False)
class Intensity:
    """One plane of a slide in each cell; not a number where a cell holds no pixel's centre."""

    mean: NDArray[np.float32]
    """Shape (n,)."""

    std: NDArray[np.float32]
    """Standard deviation over its pixels, shape (n,)."""


def cell_intensities(
    cells: LabelSource,
    count: int,
    slide: Slide,
    view: WorkingView,
    planes: int = 1,
    threads: int = 1,
) -> list[Intensity]:
    """Measure planes of a slide in each cell, in one pass.

    Parameters
    ----------
    cells : LabelSource
        Number of the cell at every pixel of the working level, 1..count.
    count : int
        Cells.
    slide : Slide
        What is measured; has the levels of the view's slide.
    view : WorkingView
        Says which level was read, and how it was resampled.
    planes : int
        How many of red, green and blue.
    threads : int
        Windows that are read at a time.

    Returns
    -------
    list of Intensity
        One a plane. Takes 24 bytes a cell and plane while it runs, 8 afterwards.
    """
    sums: list[NDArray[np.int64]] = [np.zeros((3, count), np.int64) for _ in range(planes)]
    side = max(_LEAST_PX, int(_WINDOW_PX / max(1.0, view.scale)))
    level = slide.levels[view.level]

    def read(window: tuple[int, int, int, int]) -> tuple[NDArray[np.uint32], NDArray[Any]] | None:
        y0, x0, h, w = window
        rows = _own_pixels(y0, h, cells.hw[0], view.scale, level.height_px)
        cols = _own_pixels(x0, w, cells.hw[1], view.scale, level.width_px)
        labels = cells.read(y0, x0, h, w)
        if not (len(rows[1]) and len(cols[1]) and labels.any()):
            return None
        if view.scale != 1.0:
            labels = labels[np.ix_(rows[1], cols[1])]
        l_yx, hw = (rows[0], cols[0]), (len(rows[1]), len(cols[1]))
        rgb = slide.read_region(view.level, l_yx, hw)
        values = np.ascontiguousarray(np.moveaxis(rgb[..., :planes], 2, 0))
        return np.ascontiguousarray(labels, np.uint32), values

    from cellseg.runtime.kernels.sums import add_values

    with ThreadPoolExecutor(threads) as pool:
        for found in filter(None, in_order(pool, read, windows(cells.hw, side), threads)):
            labels, values = found
            for plane, plane_sums in zip(values, sums, strict=True):
                add_values(labels, plane, *plane_sums)
    return [_intensity(*found) for found in sums]


def _own_pixels(
    start: int, size: int, extent: int, scale: float, level_px: int
) -> tuple[int, NDArray[np.int64]]:
    """Return the pixels of a level whose centres lie in a span of the working level.

    The first of them, and for each its place in the span. All spans together hold each pixel once.
    """
    first, end = (
        min(level_px, max(0, math.ceil(edge * scale - 0.5))) for edge in (start, start + size)
    )
    if start + size == extent:
        end = level_px
    centres = np.arange(first, end) + 0.5
    return first, np.clip(np.floor(centres / scale).astype(np.int64) - start, 0, size - 1)


def _intensity(
    counts: NDArray[np.int64], sums: NDArray[np.int64], squares: NDArray[np.int64]
) -> Intensity:
    with np.errstate(invalid="ignore"):
        mean, mean_square = sums / counts, squares / counts
    std = np.sqrt(np.maximum(mean_square - mean**2, 0))
    return Intensity(mean.astype(np.float32), std.astype(np.float32))
