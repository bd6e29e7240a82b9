"""Images that show the same: copies, turned, mirrored, resized or saved again.

Each image gets a perceptual hash of real numbers: a small grey thumbnail, smoothed, brought to zero
mean and unit length, so that the product of two is their correlation. One side is tried in all
eight orientations. What is alike at 16 px is compared again at 64 px without its coarse shading,
for cells in the middle of their crops look alike from afar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["Thumbs", "alike_pairs", "thumbs_of"]

_COARSE_PX, _FINE_PX = 16, 64
_COARSE_LIKENESS = 0.9
_FINE_LIKENESS = 0.93
"""Correlation of detail. Copies that were turned, shrunk to 0.6 and saved as JPEG of quality 70
keep over 0.99; different round cells in the middle of their crops reach 0.87 (80, 241 images)."""
_BLANK_STD = 1.0
_BLOCK = 512


@dataclass(frozen=True)
class Thumbs:
    """Thumbnails of one image."""

    coarse: NDArray[np.float32]
    """Shape (16, 16), zero mean, unit length."""
    fine: NDArray[np.float32]
    """Shape (64, 64), without its coarse shading, zero mean, unit length."""
    is_blank: bool
    """Shows nothing that could be recognized."""


def thumbs_of(image: NDArray[np.uint8]) -> Thumbs:
    """Make the thumbnails of an image, grey (H, W) or RGB (H, W, 3)."""
    import cv2

    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    area = cv2.INTER_AREA if min(grey.shape) >= _FINE_PX else cv2.INTER_LINEAR
    fine = cv2.resize(grey.astype(np.float32), (_FINE_PX, _FINE_PX), interpolation=area)
    coarse = cv2.resize(fine, (_COARSE_PX, _COARSE_PX), interpolation=cv2.INTER_AREA)
    detail = cv2.GaussianBlur(fine, (0, 0), 1.0) - cv2.GaussianBlur(fine, (0, 0), 4.0)
    return Thumbs(_unit(coarse), _unit(detail), bool(fine.std() < _BLANK_STD))


def alike_pairs(
    thumbs: Sequence[Thumbs], progress: Callable[[int, int], None] | None = None
) -> list[tuple[int, int, float]]:
    """Find pairs of images that show the same.

    Parameters
    ----------
    thumbs : sequence of Thumbs
        Of all images.
    progress : callable, optional
        Called with images done and images in all.

    Returns
    -------
    list of (int, int, float)
        Two indices, the lower first, and the correlation of their detail.
    """
    if not thumbs:
        return []
    seen = np.array([not item.is_blank for item in thumbs])
    plain = np.stack([item.coarse.ravel() for item in thumbs])
    turned = [np.stack([turn(item.coarse).ravel() for item in thumbs]) for turn in _TURNS]
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(thumbs), _BLOCK):
        block = plain[start : start + _BLOCK]
        for turn, others in zip(_TURNS, turned, strict=True):
            rows, columns = np.nonzero(block @ others.T > _COARSE_LIKENESS)
            rows = rows + start
            kept = (rows < columns) & seen[rows] & seen[columns]
            for one, two in zip(rows[kept].tolist(), columns[kept].tolist(), strict=True):
                detail = float((thumbs[one].fine * turn(thumbs[two].fine)).sum())
                if detail > max(_FINE_LIKENESS, found.get((one, two), 0.0)):
                    found[one, two] = detail
        if progress is not None:
            progress(min(start + _BLOCK, len(thumbs)), len(thumbs))
    return [(one, two, likeness) for (one, two), likeness in sorted(found.items())]


def _unit(thumb: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = thumb - thumb.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-6), np.float32)


def _turn(quarter: int, mirrored: bool) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    def turned(thumb: NDArray[np.float32]) -> NDArray[np.float32]:
        rotated = np.rot90(thumb, quarter)
        return rotated[:, ::-1] if mirrored else rotated

    return turned


_TURNS = tuple(_turn(quarter, mirrored) for mirrored in (False, True) for quarter in range(4))
