"""How far a frame really lies from its neighbour: phase correlation in their overlap.

The correlation of two overlapping strips, whitened to its phase, peaks at the shift between them
[1]_. The peak says nothing of how alike they are, so the shift is checked, and refined to the
pixel, by the normalized correlation of what the two then share: that is its confidence [2]_.

References
----------
.. [1] Kuglin & Hines, "The phase correlation image alignment method", 1975.
.. [2] Preibisch, Saalfeld & Tomancak, "Globally optimal stitching of tiled 3D microscopic image
   acquisitions", Bioinformatics 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Shift", "find_shift"]

_LEAST_STRIP_PX = 16
_LEAST_CONTRAST = 1.0
_LEAST_LIKENESS = 0.3
_REACH_PX = 3


@dataclass(frozen=True)
class Shift:
    """Where one frame lies from another."""

    yx: tuple[int, int]
    """From the first frame's corner to the second one's, pixels."""

    likeness: float
    """Normalized correlation of what they share there, up to 1."""


def find_shift(
    first: NDArray[np.uint8], second: NDArray[np.uint8], expected_yx: tuple[int, int]
) -> Shift | None:
    """Find the shift between two overlapping frames.

    Parameters
    ----------
    first, second : uint8, shape (h, w)
        Grey frames.
    expected_yx : (int, int)
        From the first one's corner to the second one's, as the stage says.

    Returns
    -------
    Shift or None
        None where they overlap by less than 16 px, or there is nothing in the overlap to hold on
        to: blank ground.
    """
    strips = _shared(first, second, expected_yx)
    if strips is None or min(strip.std() for strip in strips) < _LEAST_CONTRAST:
        return None
    a, b = (strip.astype(np.float32) for strip in strips)
    window = cv2.createHanningWindow((a.shape[1], a.shape[0]), cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(b, a, window)
    near_yx = expected_yx[0] + round(y), expected_yx[1] + round(x)
    found = _refined(first, second, near_yx)
    return found if found is not None and found.likeness >= _LEAST_LIKENESS else None


def _refined(
    first: NDArray[np.uint8], second: NDArray[np.uint8], yx: tuple[int, int]
) -> Shift | None:
    """Look at a shift and its neighbours; return the one at which the frames are most alike."""
    strips = _shared(first, second, yx)
    if strips is None:
        return None
    around, inner = strips[0], strips[1][_REACH_PX:-_REACH_PX, _REACH_PX:-_REACH_PX]
    alike = cv2.matchTemplate(
        np.ascontiguousarray(around), np.ascontiguousarray(inner), cv2.TM_CCOEFF_NORMED
    )
    _, best, _, (x, y) = cv2.minMaxLoc(alike)
    return Shift((yx[0] + y - _REACH_PX, yx[1] + x - _REACH_PX), float(best))


def _shared(
    first: NDArray[np.uint8], second: NDArray[np.uint8], yx: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Cut what two frames share, seen from each; None if that is too little."""
    spans = []
    for axis in (0, 1):
        start = max(0, yx[axis])
        stop = min(first.shape[axis], yx[axis] + second.shape[axis])
        if stop - start < _LEAST_STRIP_PX:
            return None
        spans.append((start, stop))
    (y0, y1), (x0, x1) = spans
    dy, dx = yx
    return first[y0:y1, x0:x1], second[y0 - dy : y1 - dy, x0 - dx : x1 - dx]
