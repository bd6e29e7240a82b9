"""Losses that compare neighbourhoods of pixels: structural similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from cellseg.train.losses.pixel import PixelLoss, registered

__all__ = ["SsimLoss"]

_WINDOW_PX, _SIGMA_PX = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


@registered
class SsimLoss(PixelLoss):
    """``1 - mean( (2 my mp + c1) (2 syp + c2) / ((my^2 + mp^2 + c1) (sy^2 + sp^2 + c2)) )``.

    Means m, variances s^2 and covariance syp are those of a Gaussian window of 11 px, sigma 1.5 px,
    wherever it lies inside the image, in each channel; c1 = 0.01^2, c2 = 0.03^2. In an image of
    less than 11 px the window is the largest odd one that fits.

    References
    ----------
    .. [1] Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
       structural similarity", IEEE Trans. Image Processing 13, 600-612 (2004).
    """

    def __init__(self, name: str = "ssim") -> None:
        super().__init__(name)

    def of(self, truth: Any, probabilities: Any) -> Any:
        """Return the mean over windows and channels."""
        return 1.0 - ops.mean(_similarity(truth, probabilities))


def _similarity(one: Any, two: Any) -> Any:
    """Structural similarity of each window, (N, h, w, C)."""
    mean_one, mean_two = _windowed(one), _windowed(two)
    variances = _windowed(one * one + two * two) - mean_one**2 - mean_two**2
    covariance = _windowed(one * two) - mean_one * mean_two
    light = (2 * mean_one * mean_two + _C1) / (mean_one**2 + mean_two**2 + _C1)
    return light * (2 * covariance + _C2) / (variances + _C2)


def _windowed(values: Any) -> Any:
    """Weighted means in a Gaussian window, along rows and then columns."""
    for axis in (1, 2):
        span = min(_WINDOW_PX, values.shape[axis] or _WINDOW_PX)
        weights = _gaussian(span - 1 + span % 2)
        shape = (-1, 1) if axis == 1 else (1, -1)
        kernel = np.tile(weights.reshape(*shape, 1, 1), (1, 1, values.shape[-1], 1))
        values = ops.depthwise_conv(values, kernel, padding="valid")
    return values


def _gaussian(span: int) -> Any:
    places = np.arange(span) - span // 2
    weights = np.exp(-(places**2) / (2 * _SIGMA_PX**2))
    return (weights / weights.sum()).astype(np.float32)
