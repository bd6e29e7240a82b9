"""What of a run's maps is shown where only a part of the slide is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.shapes.limit import Limit
    from cellseg.runtime.store.labels import LabelSource

__all__ = ["Inside"]


class Inside:
    """A map of the working level of which only what lies within a limit is shown; the rest is 0.

    Parameters
    ----------
    labels : LabelSource
        What is there, also beyond.
    limit : Limit
        Regions, or a mask.
    """

    def __init__(self, labels: LabelSource, limit: Limit) -> None:
        self._labels, self._limit = labels, limit
        self.hw, self.dtype = labels.hw, labels.dtype

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[Any]:
        """Return a window; see `cellseg.runtime.store.labels.LabelSource`."""
        window = self._labels.read(y0, x0, h, w)
        inside = self._limit.inside(y0, x0, (h, w))
        return window if inside.all() else np.where(inside, window, window.dtype.type(0))
