"""Where the tissue of a made slide lies: smooth blobs that cover a given fraction.

The blobs are a threshold on value noise: hashed numbers on a wide grid, blended smoothly. The field
is sampled on a grid of about 1000 points a side and interpolated linearly from there, so that a
window inside or outside the tissue is known from its corners. Only sums and products are used,
which are the same on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.bench.slides.patches import hash_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TissueField"]

_POINTS = 1024
_MIN_STEP_PX = 8
_OCTAVES = ((5, 0.7), (13, 0.3))
"""Blobs along the longer side, and their share."""


class TissueField:
    """Tissue or glass, for any window of a slide.

    Parameters
    ----------
    size_wh : (int, int)
        Extent of the slide in pixels.
    tissue : float
        Fraction of the slide that is tissue, 0..1.
    seed : int
        Places the blobs.
    """

    def __init__(self, size_wh: tuple[int, int], tissue: float, seed: int) -> None:
        longest = max(size_wh)
        self.step_px = max(_MIN_STEP_PX, 1 << max(0, (longest // _POINTS).bit_length()))
        points = [side // self.step_px + 2 for side in reversed(size_wh)]
        self._field = np.zeros(points)
        for blobs, share in _OCTAVES:
            spacing = max(2.0, longest / self.step_px / blobs)
            self._field += share * _noise(points, spacing, hash_of(seed, blobs))
        height, width = (side // self.step_px + 1 for side in reversed(size_wh))
        self._threshold = _threshold(self._field[:height, :width], tissue)

    def window(self, y0: int, x0: int, size_px: int) -> NDArray[np.bool_] | bool:
        """Return the tissue of a square window.

        Returns
        -------
        bool, or bool array of shape (size_px, size_px)
            A single value where the window is all tissue or all glass.
        """
        (rows, fy), (cols, fx) = (
            self._positions(start, size_px, points)
            for start, points in zip((y0, x0), self._field.shape, strict=True)
        )
        corners = self._field[rows[0] : rows[-1] + 2, cols[0] : cols[-1] + 2]
        if corners.min() >= self._threshold:
            return True
        if corners.max() < self._threshold:
            return False
        rows, cols = rows - rows[0], cols - cols[0]
        down = corners[rows] + (corners[rows + 1] - corners[rows]) * fy[:, None]
        field = down[:, cols] + (down[:, cols + 1] - down[:, cols]) * fx
        return np.asarray(field >= self._threshold)

    def _positions(
        self, start: int, count: int, points: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Place pixels between the points of an axis; past its end the last pair goes on."""
        at = start + np.arange(count)
        low = np.minimum(at // self.step_px, points - 2)
        return low, (at % self.step_px) / self.step_px


def _noise(shape: list[int], spacing: float, seed: int) -> NDArray[np.float64]:
    """Value noise, 0..1: hashed numbers every ``spacing`` points, blended by a smooth step."""
    size = [int(side / spacing) + 2 for side in shape]
    knots = np.array(
        [[hash_of(seed, row, col) / 2.0**64 for col in range(size[1])] for row in range(size[0])]
    )
    at = [np.arange(side) / spacing for side in shape]
    (y, fy), (x, fx) = ((index.astype(int), _smooth(index % 1.0)) for index in at)
    down = knots[y] * (1 - fy)[:, None] + knots[y + 1] * fy[:, None]
    return np.asarray(down[:, x] * (1 - fx) + down[:, x + 1] * fx)


def _smooth(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return t * t * (3 - 2 * t)


def _threshold(field: NDArray[np.float64], tissue: float) -> float:
    """Find the value that the given fraction of the slide reaches."""
    if tissue <= 0:
        return np.inf
    if tissue >= 1:
        return -np.inf
    ranked = np.sort(field, axis=None)
    return float(ranked[min(ranked.size - 1, int((1 - tissue) * ranked.size))])
