"""The slide with its result painted on at full resolution: zoom in on any cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.writers.jpeg_pyramid import JPEG_TILE_PX, JpegPyramid, encode_tile
from cellseg.runtime.writers.z_order import PyramidGrid, build_in_z_order

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.store.labels import LabelSource
    from cellseg.runtime.view.working import WorkingView
    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["write_overlay_pyramid"]

_FILL = 64
_OUTLINE = 224
_EDGE_PX = 1


def write_overlay_pyramid(path: Path, run: FinishedRun) -> None:
    """Write the slide at the working level, class colours blended over it, with its pyramid."""
    job = run.job
    objects = run.classes if run.cells is None else run.cells
    painter = _Painter(job.shown, run.classes, objects, job.palette)
    grid = PyramidGrid(job.view.hw, JPEG_TILE_PX)
    with JpegPyramid(path, grid.level_hws, job.view.mpp) as pyramid:
        build_in_z_order(grid, painter.start, encode_tile, pyramid.put)


@dataclass(frozen=True)
class _Painter:
    """Paints tiles of the full resolution."""

    view: WorkingView
    classes: LabelSource
    objects: LabelSource
    palette: NDArray[np.uint8]

    def start(self, row: int, column: int) -> Callable[[], NDArray[np.uint8]]:
        """Read the classes of a tile, from this thread; the rest may be done by another."""
        (y0, y1), (x0, x1) = (
            (index * JPEG_TILE_PX, min((index + 1) * JPEG_TILE_PX, extent))
            for index, extent in zip((row, column), self.view.hw, strict=True)
        )
        # A margin, so that an outline knows what lies beyond the tile.
        top, left = min(_EDGE_PX, y0), min(_EDGE_PX, x0)
        bottom, right = (
            min(_EDGE_PX, extent - end) for end, extent in zip((y1, x1), self.view.hw, strict=True)
        )
        window = (y0 - top, x0 - left, y1 - y0 + top + bottom, x1 - x0 + left + right)
        classes = self.classes.read(*window)
        objects = classes if self.objects is self.classes else self.objects.read(*window)
        margins = ((top, bottom), (left, right))
        return lambda: self._paint((y0, x0), (y1 - y0, x1 - x0), margins, classes, objects)

    def _paint(
        self,
        yx: tuple[int, int],
        hw: tuple[int, int],
        margins: tuple[tuple[int, int], tuple[int, int]],
        classes: NDArray[np.uint8],
        objects: NDArray[Any],
    ) -> NDArray[np.uint8]:
        from cellseg.runtime.kernels.palette import paint

        # The slide is read without the margin, which would touch more of its tiles.
        rgb = self.view.read(*yx, *hw)
        if not classes.any():
            return rgb
        padded = np.pad(rgb, (*margins, (0, 0)))
        whole = np.ascontiguousarray(classes), np.ascontiguousarray(objects)
        paint(padded, *whole, self.palette, _FILL, _OUTLINE, _EDGE_PX)
        (top, _), (left, _) = margins
        return padded[top : top + hw[0], left : left + hw[1]]
