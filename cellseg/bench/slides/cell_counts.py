"""What tiling does to cells: those of an untiled class map that are lost or cut in two by another.

Cells are connected pieces of foreground, corners counting. A piece of the untiled map is *lost* if
the other map has no pixel of it, and *doubled* if two pieces or more of the other map, each with a
tenth of it at least, lie in it. Only pieces of a size are counted: specks come and go with the last
bit of a probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CellCounts", "count_cells"]

LEAST_PX = 30
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class CellCounts:
    """Cells of the untiled map, and what became of them."""

    cells: int
    lost: int
    doubled: int


def count_cells(found: NDArray[np.uint8], untiled: NDArray[np.uint8]) -> CellCounts:
    """Count the cells of the untiled map that are lost or doubled.

    Parameters
    ----------
    found, untiled : uint8, shape (H, W)
        Class maps; above 0 is foreground.
    """
    cells, sizes = _pieces(untiled)
    pieces, _ = _pieces(found)
    shared = (cells > 0) & (pieces > 0)
    width = int(pieces.max(initial=0)) + 1
    pairs, overlap = np.unique(
        cells[shared].astype(np.int64) * width + pieces[shared], return_counts=True
    )
    owner = pairs // width
    counted = np.flatnonzero(sizes >= LEAST_PX)
    touched = np.bincount(owner, minlength=sizes.size)
    large = overlap >= LEAST_SHARE * sizes[owner]
    parts = np.bincount(owner[large], minlength=sizes.size)
    return CellCounts(
        cells=int(counted.size),
        lost=int(np.count_nonzero(touched[counted] == 0)),
        doubled=int(np.count_nonzero(parts[counted] > 1)),
    )


def _pieces(classes: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return pieces numbered from 1, and the size of each, 0 for the background."""
    count, labels = cv2.connectedComponents((classes > 0).astype(np.uint8), connectivity=8)
    sizes = np.bincount(labels.ravel(), minlength=count)
    sizes[0] = 0
    return labels, sizes
