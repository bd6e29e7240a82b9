"""What of a run's maps is shown where regions of interest alone are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.shapes.roi import Roi
    from cellseg.runtime.store.labels import LabelSource

__all__ = ["InsideRoi"]


class InsideRoi:
    """A map of the working level of which only what lies in regions is shown; the rest is 0.

    Parameters
    ----------
    labels : LabelSource
        What is there within their reach.
    roi : Roi
        The regions.
    """

    def __init__(self, labels: LabelSource, roi: Roi) -> None:
        self._labels, self._roi = labels, roi
        self.hw, self.dtype = labels.hw, labels.dtype

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[Any]:
        """Return a window; see `cellseg.runtime.store.labels.LabelSource`."""
        window = self._labels.read(y0, x0, h, w)
        inside = self._roi.inside(y0, x0, (h, w))
        return window if inside.all() else np.where(inside, window, window.dtype.type(0))
