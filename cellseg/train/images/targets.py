"""What the network learns to say of each pixel, from an instance label map.

Classes: 0 background, 1 interior, 2 border. A border pixel lies within ``border_px`` of its
nucleus' edge, or in the background within ``gap_px`` of two different nuclei. Thin background gaps
between touching nuclei are thus border too, so removing the border class separates them. The border
may grow with the nucleus: two pixels on all sides leave nothing of a nucleus of six, and two pixels
between nuclei of ninety are easily missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKGROUND, INTERIOR, BORDER = 0, 1, 2
WIDEST_CONTACT_PX = 8


def interior_border(
    labels: NDArray[np.uint16], border_px: int = 2, gap_px: int = 2, border_share: float = 0.0
) -> NDArray[np.uint8]:
    """Class of each pixel: 0 background, 1 interior, 2 border.

    Parameters
    ----------
    labels : uint16, shape (H, W)
        Instance ids, 0 = background.
    border_px, gap_px : int
        Thickness of the border inside a nucleus; reach of two nuclei into the gap between them.
    border_share : float
        If it is not 0, the border inside a nucleus is this share of its diameter (that of a circle
        of its area): towards the background 1 px to ``border_px``, towards another nucleus
        ``border_px`` to `WIDEST_CONTACT_PX`.

    Returns
    -------
    uint8, shape (H, W)
    """
    classes = _border_of_one_width(labels, border_px, gap_px)
    if border_share == 0:
        return classes
    diameter_px = np.sqrt(np.bincount(labels.ravel()) * (4 / np.pi))
    widths = np.clip(np.round(border_share * diameter_px), 1, WIDEST_CONTACT_PX).astype(np.uint8)
    widths[0] = 0
    width = widths[labels]
    for px in range(1, border_px):
        thinner = _border_of_one_width(labels, px, gap_px)
        np.copyto(classes, thinner, where=width == px)
    between = np.where(labels > 0, np.maximum(width, border_px), 0)
    for px in range(border_px, int(between.max(initial=0)) + 1):
        high, low = _label_range(labels, px)
        classes[(between >= px) & (high != low)] = BORDER
    return classes


def _border_of_one_width(
    labels: NDArray[np.uint16], border_px: int, gap_px: int
) -> NDArray[np.uint8]:
    inside = labels > 0
    high, low = _label_range(labels, border_px)
    classes = np.where(inside, np.uint8(BORDER), np.uint8(BACKGROUND))
    has_background = cv2.erode(inside.astype(np.uint8), _window(border_px)) == 0
    classes[inside & (high == low) & ~has_background] = INTERIOR
    if gap_px != border_px:
        high, low = _label_range(labels, gap_px)
    classes[~inside & (high > 0) & (high != low)] = BORDER
    return classes


def contact_weights(
    labels: NDArray[np.uint16], contact_weight: float, gap_px: int = 2
) -> NDArray[np.float32]:
    """Weight of each pixel in the loss: ``contact_weight`` where two nuclei are near, else 1.

    Borders as a whole are not weighted: that pushes every outline outwards, because a border pixel
    then counts for more than the background pixel beside it.

    Parameters
    ----------
    labels : uint16, shape (H, W)
        Instance ids, 0 = background.
    contact_weight : float
        Weight of pixels within ``gap_px`` of two different nuclei.
    gap_px : int
        Reach.

    Returns
    -------
    float32, shape (H, W)
    """
    high, low = _label_range(labels, gap_px)
    is_contact = (high > 0) & (high != low)
    return np.where(is_contact, np.float32(contact_weight), np.float32(1))


def normalized_distance(labels: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Distance to the own nucleus' edge over its largest value in that nucleus, 0..1.

    Parameters
    ----------
    labels : uint16, shape (H, W)
        Instance ids, 0 = background.

    Returns
    -------
    float32, shape (H, W)
        0 in the background, 1 at each nucleus' innermost pixel.
    """
    edgeless = (interior_border(labels, 1, 1) == INTERIOR).astype(np.uint8)
    distance = cv2.distanceTransform(edgeless, cv2.DIST_L2, 5) + (labels > 0)
    distance = distance.astype(np.float32)
    largest = np.ones(int(labels.max()) + 1, np.float32)
    np.maximum.at(largest, labels.ravel(), distance.ravel())
    return np.asarray(distance / largest[labels], dtype=np.float32)


def _window(radius_px: int) -> NDArray[np.uint8]:
    return np.ones((2 * radius_px + 1, 2 * radius_px + 1), np.uint8)


def _label_range(
    labels: NDArray[np.uint16], radius_px: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Largest and smallest non-zero label in each window."""
    window = _window(radius_px)
    high = cv2.dilate(labels, window)
    low = cv2.erode(np.where(labels == 0, np.uint16(65535), labels), window)
    return high, low
