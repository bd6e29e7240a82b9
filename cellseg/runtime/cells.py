"""From a model's probabilities to one label a cell.

A seed is a connected piece, not too small, of foreground in which the smoothed interior channel
reaches ``seed_threshold``; a piece of foreground without a seed is one too. Seeds grow over the
foreground by watershed on that channel, so touching cells part along its valley. The channel is
taken in 256 steps and smoothed in integers, so that seeds are the same on every machine, and so
that a byte a pixel is all that a slide's run must keep of it.

Works on a window in memory; `cellseg.runtime.regions` puts windows of a slide together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from cellseg.runtime.kernels.instances import number_in_raster_order
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
    height = interior
    if rule.seed_blur_px > 0:
        height = np.asarray(cv2.GaussianBlur(interior, (0, 0), rule.seed_blur_px), np.uint8)
    inside = height >= round(rule.seed_threshold * 255)
    labels = find_seeds(foreground, inside, rule.min_seed_px)
    flood(255 - height, foreground, labels)
    return labels, renumber(labels, rule.min_area_px)


def find_seeds(
    foreground: NDArray[np.bool_], inside: NDArray[np.bool_], min_seed_px: int = 0
) -> NDArray[np.uint32]:
    """One label for each 4-connected piece of ``inside & foreground``, and for seedless pieces.

    Parameters
    ----------
    foreground, inside : bool, shape (H, W)
    min_seed_px : int
        Pieces of ``inside`` with fewer pixels are no seeds.

    Returns
    -------
    uint32, shape (H, W)
    """
    count, seeds = cv2.connectedComponents((foreground & inside).astype(np.uint8), connectivity=4)
    is_small = np.bincount(seeds.ravel(), minlength=count) < min_seed_px
    seeds[is_small[seeds]] = 0
    pieces, piece = cv2.connectedComponents(foreground.astype(np.uint8), connectivity=4)
    has_seed = np.zeros(pieces, bool)
    has_seed[piece[seeds > 0]] = True
    has_seed[0] = True
    extra = np.cumsum(~has_seed) + (count - 1)
    return np.asarray(np.where(has_seed[piece], seeds, extra[piece]), dtype=np.uint32)


def renumber(labels: NDArray[np.uint32], min_area_px: int = 0) -> NDArray[np.int64]:
    """Give cells the numbers 1..n in raster order of their first pixels, in place.

    Parameters
    ----------
    labels : uint32, shape (H, W)
        Contiguous.
    min_area_px : int
        Cells of fewer pixels become 0.

    Returns
    -------
    int64, shape (n,)
        First pixel of each cell, ``y * W + x``.
    """
    area = np.bincount(labels.ravel())
    first = np.empty(len(area), np.int64)
    count = number_in_raster_order(
        labels, area >= min_area_px, np.zeros(len(area), np.uint32), first
    )
    return first[:count]
