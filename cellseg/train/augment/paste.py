"""Objects of one training crop pasted onto another: few labelled objects, seen in more places.

References
----------
.. [1] Ghiasi et al., "Simple copy-paste is a strong data augmentation method for instance
   segmentation", CVPR 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["paste_objects"]

_FEATHER_PX = 1.0  # sigma: an edge that is sharp by nature stays one
_TRIES = 8


def paste_objects(
    rng: np.random.Generator,
    image: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    other: NDArray[np.uint8],
    other_classes: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Paste the whole objects of another crop at random places where there are none yet.

    Parameters
    ----------
    rng : Generator
        Draws the places: an object's middle lies anywhere in the crop, so that the edge cuts some.
    image, other : uint8, shape (H, W, 3)
        Two crops of one size.
    classes, other_classes : uint8, shape (H, W)
        Class of each pixel. An object is an 8-connected piece of what is not 0; one that its own
        crop's edge cuts is no whole one.

    Returns
    -------
    image : uint8, shape (H, W, 3)
    classes : uint8, shape (H, W)
        New arrays. An object that finds no free place in eight tries is left out.
    """
    height, width = classes.shape
    count, labels, boxes, _ = cv2.connectedComponentsWithStats((other_classes > 0).astype(np.uint8))
    for label in range(1, count):
        x, y, w, h = boxes[label, :4]
        if x == 0 or y == 0 or x + w == width or y + h == height:
            continue
        mask = labels == label
        for _ in range(_TRIES):
            shift_yx = rng.integers(0, height) - (y + h // 2), rng.integers(0, width) - (x + w // 2)
            moved = _moved(mask.view(np.uint8), shift_yx) > 0
            if not classes[moved].any():
                image = _blended(image, _moved(other, shift_yx), moved)
                classes = np.where(moved, _moved(other_classes, shift_yx), classes)
                break
    return image, classes


def _moved(image: NDArray[np.uint8], shift_yx: tuple[int, int]) -> NDArray[np.uint8]:
    """Move an image; what comes in from outside is 0."""
    matrix = np.array([[1.0, 0.0, shift_yx[1]], [0.0, 1.0, shift_yx[0]]])
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_NEAREST))


def _blended(
    image: NDArray[np.uint8], other: NDArray[np.uint8], mask: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Show another image where a mask is, without a hard edge."""
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), _FEATHER_PX)[..., None]
    return np.rint(image * (1 - alpha) + other * alpha).astype(np.uint8)
