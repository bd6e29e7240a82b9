"""What part of a slide is wanted: regions that were drawn, or a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["REACH_OF_CELLS_PX", "Limit"]

REACH_OF_CELLS_PX = 128
"""How far beyond a limit cells are looked for, pixels of the working level along y and x."""


class Limit(Protocol):
    """Points of the working level that are wanted; the others are not."""

    def inside(self, y0: int, x0: int, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which pixels of a window are wanted by their centres, shape ``hw``."""
        ...

    def at(self, ys: NDArray[np.float64], xs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points of a grid are wanted, ``ys`` and ``xs`` ascending, bool (h, w)."""
        ...

    def has(self, ys: NDArray[np.float64], xs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points are wanted, bool (n,)."""
        ...
