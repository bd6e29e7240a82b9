"""Black corners that turning an image brought in: alike in all images, and showing nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["without_padding"]

_BLACK = 12
_BRIGHT = 60
"""On a ground darker than this black may be the ground: fluorescence is left as it is."""
_LEAST_SHARE, _MOST_SHARE = 0.002, 0.35
"""Of the image: one blank piece is no corner, and a turn by 45 degrees leaves a sixth black."""
_EDGE_PX = 5


def without_padding(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give black areas at the border of a bright RGB image the colour of its ground.

    Parameters
    ----------
    image : uint8, shape (H, W, 3)
        Returned itself where it has none.
    """
    import cv2

    black = (image.max(-1) <= _BLACK).astype(np.uint8)
    corners = black[[0, 0, -1, -1], [0, -1, 0, -1]]
    if not corners.any() or black.mean() > _MOST_SHARE:
        return image
    ground = np.median(image[black == 0], axis=0)
    if ground.mean() < _BRIGHT:
        return image
    _, pieces, facts, _ = cv2.connectedComponentsWithStats(black)
    rim = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    large = np.flatnonzero(facts[:, cv2.CC_STAT_AREA] >= _LEAST_SHARE * black.size)
    padding = np.isin(pieces, np.intersect1d(np.setdiff1d(rim, [0]), large)).astype(np.uint8)
    padding = cv2.dilate(padding, np.ones((_EDGE_PX, _EDGE_PX), np.uint8))
    return np.where(padding[..., None] > 0, ground.astype(np.uint8), image)
