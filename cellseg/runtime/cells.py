"""From a model's probabilities to one label a cell.

A seed is a peak, not too small, of the smoothed interior channel: a connected piece of foreground
in which it reaches ``seed_threshold``, parted where it falls by ``seed_depth`` between maxima. A
piece of foreground without a seed is a cell, too. Seeds grow over the foreground by watershed on
that channel, so touching cells part along its valley. The channel is taken in 256 steps and
smoothed in integers, so that seeds are the same on every machine, and a byte a pixel is all that a
slide's run must keep of it.

Works on a window in memory; `cellseg.runtime.regions` puts windows of a slide together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from cellseg.runtime.kernels.instances import label_left, mark_seeds, number_in_raster_order
from cellseg.runtime.kernels.watershed import flood

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.manifest import InteriorBorder


def instances_from_probabilities(
    probabilities: NDArray[np.float32], rule: InteriorBorder, threshold: float | None = 0.5
) -> NDArray[np.uint32]:
    """Label map of the cells in one image.

    Parameters
    ----------
    probabilities : float32, shape (H, W, C)
        The model's output; channel 0 is background.
    rule : InteriorBorder
        The manifest's ``head.instances``: seed channel, smoothing, threshold, smallest areas.
    threshold : float, optional
        Foreground where ``1 - probabilities[..., 0]`` reaches it; None is 0.5.

    Returns
    -------
    uint32, shape (H, W)
        Ids 1..n in raster order of each cell's first pixel, 0 = background.
    """
    foreground = 1.0 - probabilities[..., 0] >= (0.5 if threshold is None else threshold)
    return label_cells(foreground, interior_steps(probabilities, rule), rule)[0]


def interior_steps(probabilities: NDArray[np.float32], rule: InteriorBorder) -> NDArray[np.uint8]:
    """Interior channel in 256 steps, uint8 (H, W): what seeds and watershed are made from."""
    return np.rint(np.clip(probabilities[..., rule.interior_channel], 0, 1) * 255).astype(np.uint8)


def label_cells(
    foreground: NDArray[np.bool_], interior: NDArray[np.uint8], rule: InteriorBorder
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Label map of the cells in a window, and each cell's first pixel.

    Parameters
    ----------
    foreground : bool, shape (H, W)
    interior : uint8, shape (H, W)
        See `interior_steps`.
    rule : InteriorBorder
        The manifest's ``head.instances``.

    Returns
    -------
    labels : uint32, shape (H, W)
        Ids 1..n in raster order of each cell's first pixel, 0 = background.
    first : int64, shape (n,)
        First pixels, ``y * W + x``.
    """
    height = np.ascontiguousarray(interior)
    if rule.seed_blur_px > 0:
        height = np.asarray(cv2.GaussianBlur(interior, (0, 0), rule.seed_blur_px), np.uint8)
    level = round(rule.seed_threshold * 255)
    framed_hw = foreground.shape[0] + 2, foreground.shape[1] + 2
    framed, elevation = np.empty(framed_hw, np.uint32), np.empty(framed_hw, np.uint8)
    depth = 256 if rule.seed_depth == 1 else round(rule.seed_depth * 255)
    count = mark_seeds(foreground, height, level, depth, rule.min_seed_px, framed, elevation)
    flood(elevation, framed)
    count = label_left(framed, count)
    labels, first = np.empty(foreground.shape, np.uint32), np.empty(count, np.int64)
    table = np.zeros(count + 1, np.uint32)
    kept = number_in_raster_order(framed, rule.min_area_px, table, labels, first)
    return labels, first[:kept]
