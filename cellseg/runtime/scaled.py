"""Images scaled by one factor, with the class of each pixel: how `whole` recipes see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fit_factor", "scaled_classes", "scaled_image"]


def fit_factor(hw: tuple[int, ...], size_px: tuple[int, int]) -> float:
    """Scale that makes an image fit a size (width, height): the smaller of both ratios."""
    return min(size_px[1] / hw[0], size_px[0] / hw[1])


def scaled_image(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Scale an image: by area where it is made smaller, else linearly."""
    hw = _scaled_hw(image.shape[:2], factor)
    if hw == image.shape[:2]:
        return image
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, hw[::-1], interpolation=how))


def scaled_classes(classes: NDArray[Any], factor: float) -> NDArray[Any]:
    """Scale classes or ids of pixels (H, W): the nearest pixel's, never a blend."""
    hw = _scaled_hw(classes.shape, factor)
    if hw == classes.shape:
        return classes
    return np.asarray(cv2.resize(classes, hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


def _scaled_hw(hw: tuple[int, ...], factor: float) -> tuple[int, int]:
    height, width = (max(1, round(side * factor)) for side in hw[:2])
    return height, width
