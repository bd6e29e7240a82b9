"""From a model's probabilities to one label a cell.

A seed is a connected piece, not too small, of foreground in which the smoothed interior channel
reaches ``seed_threshold``; a piece of foreground without a seed is one too. Seeds grow over the
foreground by watershed on that channel, so touching cells part along its valley. The channel is
taken in 256 steps and smoothed in integers, so that seeds are the same on every machine. Works on
a whole image in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

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
    height = np.rint(np.clip(probabilities[..., rule.interior_channel], 0, 1) * 255)
    height = height.astype(np.uint8)
    if rule.seed_blur_px > 0:
        height = cv2.GaussianBlur(height, (0, 0), rule.seed_blur_px)
    inside = height >= round(rule.seed_threshold * 255)
    labels = find_seeds(foreground, inside, rule.min_seed_px)
    flood(255 - height, foreground, labels)
    return renumber(drop_small(labels, rule.min_area_px))


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


def drop_small(labels: NDArray[np.uint32], min_area_px: int) -> NDArray[np.uint32]:
    """Set cells of fewer than ``min_area_px`` pixels to 0; returns a new array (H, W)."""
    area = np.bincount(labels.ravel())
    keep = area >= min_area_px
    keep[0] = False
    return np.where(keep[labels], labels, np.uint32(0))


def renumber(labels: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Ids 1..n in raster order of first appearance; returns a new array (H, W)."""
    ids, first = np.unique(labels, return_index=True)
    order = np.argsort(first[ids != 0])
    table = np.zeros(int(labels.max(initial=0)) + 1, np.uint32)
    table[ids[ids != 0][order]] = np.arange(1, len(order) + 1, dtype=np.uint32)
    return table[labels]
