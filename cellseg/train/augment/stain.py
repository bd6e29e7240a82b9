"""New stains: bright-field crops in other colours, fluorescent nuclei of unequal brightness.

The labelled bright-field images show hardly any eosin, and a network that never saw pink stroma
takes it for nuclei. Light that passes a stain falls off exponentially, so optical densities add:
the density of a crop is split by its labels into a nuclear part, dyed anew with a haematoxylin or
DAB colour, and the rest, dyed with an eosin colour and laid over a random ground of clouds and
fibres. Cells get bodies around their nuclei. Ground and bodies may take up the nuclear stain, too,
as keratin and epithelium do, so that it is not colour alone that makes a nucleus.

References
----------
.. [1] Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23, 291-299 (2001): stain vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Optical densities in red, green, blue (haematoxylin, eosin, DAB: Ruifrok and Johnston; the others
# are ours, by the look of slides), normalized to unit mean.
NUCLEAR_STAINS = np.array(
    [(0.65, 0.70, 0.29), (0.60, 0.68, 0.45), (0.75, 0.55, 0.30), (0.27, 0.57, 0.78)]
)
COUNTERSTAINS = np.array(
    [(0.07, 0.99, 0.11), (0.12, 0.75, 0.50), (0.20, 0.85, 0.35), (0.30, 0.80, 0.50)]
)
BRIGHT = 110


def is_bright_field(image: NDArray[np.uint8]) -> bool:
    """Tell whether a whole image's ground is bright: its median is; a crop may be all nucleus."""
    return bool(np.median(image[::8, ::8]) > BRIGHT)


def restain(
    image: NDArray[np.uint8], labels: NDArray[np.uint16], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Dye a bright-field crop anew.

    Parameters
    ----------
    image : uint8, shape (H, W, 3)
        RGB on a bright ground.
    labels : uint16, shape (H, W)
        Nuclei, 0 = elsewhere.
    rng : Generator
        Colours, strengths and ground.

    Returns
    -------
    uint8, shape (H, W, 3)
    """
    density = -np.log((image.astype(np.float32) + 1) / 256).mean(-1)
    nuclear = cv2.GaussianBlur((labels > 0).astype(np.float32), (0, 0), rng.uniform(0.5, 1.5))
    elsewhere = density * (1 - nuclear)
    # Haematoxylin stains cytoplasm and mucus, too: some of the rest keeps its colour.
    kept = rng.uniform(0.0, 0.8)
    dyed = density * nuclear * np.exp(rng.uniform(np.log(0.5), np.log(3.0))) + elsewhere * kept
    counter = elsewhere * rng.uniform(0.5, 3.0)
    for ground in (tissue(density.shape, rng), cytoplasm(labels, rng)):
        # Epithelium, keratin and many cells' bodies take up both stains.
        share = rng.uniform(0.1, 0.7) * clouds(density.shape, rng) if rng.random() < 0.5 else 0.0
        dyed = dyed + ground * share * (1 - nuclear)
        counter = counter + ground * (1 - share)
    total = dyed[..., None] * _colour(NUCLEAR_STAINS, rng)
    total += counter[..., None] * _colour(COUNTERSTAINS, rng)
    return np.clip(np.rint(256 * np.exp(-total) - 1), 0, 255).astype(np.uint8)


def dim_nuclei(
    image: NDArray[np.uint8], labels: NDArray[np.uint16], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Give each nucleus of a fluorescence crop its own brightness, 0.15 to 1 times what it was.

    One range serves the whole slide, so a dim nucleus beside bright ones stays dim; there are few
    such among the labelled images, and a network that saw few of them misses them.

    Parameters
    ----------
    image : uint8, shape (H, W, 3)
        On a dark ground.
    labels : uint16, shape (H, W)
        Nuclei, 0 = elsewhere.
    rng : Generator
        Brightness of each nucleus.

    Returns
    -------
    uint8, shape (H, W, 3)
    """
    outside = image[labels == 0]
    ground = np.median(outside, axis=0).astype(np.float32) if len(outside) else np.float32(0)
    lowest = rng.uniform(0.15, 0.7)
    gains = np.exp(rng.uniform(np.log(lowest), 0, int(labels.max()) + 1)).astype(np.float32)
    gains[0] = 1
    # A nucleus glows past its outline: its surroundings are dimmed with it, or a ring would remain.
    near = np.where(labels > 0, labels, cv2.dilate(labels, np.ones((9, 9), np.uint8)))
    gain = cv2.GaussianBlur(gains[near], (0, 0), 1.5)[..., None]
    return np.clip(np.rint(ground + (image - ground) * gain), 0, 255).astype(np.uint8)


def _colour(stains: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
    """One of the stains, a little off, with unit mean."""
    colour = stains[rng.integers(len(stains))] * rng.uniform(0.8, 1.2, 3)
    return np.asarray(colour / colour.mean(), dtype=np.float32)


def cytoplasm(labels: NDArray[np.uint16], rng: np.random.Generator) -> NDArray[np.float32]:
    """Density of bodies around the nuclei, 0 to about 1, in half of the crops.

    Often with gaps between neighbours. A network that has seen nuclei in clear surroundings alone
    takes a stained cell for its nucleus.
    """
    if rng.random() < 0.5 or not labels.any():
        return np.zeros(labels.shape, np.float32)
    away, nearest = cv2.distanceTransformWithLabels(
        (labels == 0).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(int(nearest.max()) + 1, np.uint16)
    owner[nearest[labels > 0]] = labels[labels > 0]
    cell = owner[nearest].astype(np.float32)
    reach_px = np.exp(rng.uniform(np.log(3), np.log(20))) * (1 + 0.2 * _smooth(cell.shape, 12, rng))
    body = (away < reach_px).astype(np.float32)
    if rng.random() < 0.6:  # neighbours do not touch
        body *= cv2.dilate(cell, None) == cv2.erode(cell, None)
    each = rng.uniform(0.4, 1.0, int(labels.max()) + 1).astype(np.float32)
    body = cv2.GaussianBlur(body * each[cell.astype(np.uint16)], (0, 0), rng.uniform(0.5, 1.5))
    grain = 1 + 0.2 * _smooth(cell.shape, rng.uniform(1.5, 6), rng)
    return np.asarray(rng.uniform(0.1, 0.9) * body * np.maximum(grain, 0), np.float32)


def tissue(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Density of a ground without nuclei, 0 to about 1.5; absent in a fifth of the crops.

    Wavy fibres of one width and direction, with clefts between them, in clouds of unequal
    density.
    """
    strength = max(0.0, rng.uniform(-0.25, 1.0))
    body = clouds(shape, rng) * rng.uniform(0.2, 1.0)
    woven = fibres(shape, rng) if rng.random() < 0.7 else np.float32(1)
    return np.asarray(strength * (rng.uniform(0.0, 0.4) + body) * woven, np.float32)


def fibres(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Wavy fibres, 0 between them and 1 on them: stripes whose places and edges are warped."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle, period_px = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(4), np.log(30)))
    across = x * np.cos(angle) + y * np.sin(angle)
    for grain_px in (max(shape) / 3, 2 * period_px):  # as steep as that, or stripes close to rings
        across += grain_px * rng.uniform(0, 0.25) * _smooth(shape, grain_px, rng)
    wave = np.sin(2 * np.pi / period_px * across) + 0.5 * _smooth(shape, 1.5 * period_px, rng)
    sharpness, level = np.exp(rng.uniform(0, np.log(6))), rng.uniform(-0.9, 0.3)
    return np.asarray(np.clip(0.5 + sharpness * (wave - level), 0, 1), np.float32)


def clouds(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth patches, 0 to 1."""
    field = _smooth(shape, np.exp(rng.uniform(np.log(12), np.log(80))), rng)
    sharpness = np.exp(rng.uniform(np.log(0.3), np.log(3)))
    return np.asarray(np.clip(0.5 + sharpness * field, 0, 1), np.float32)


def _smooth(shape: tuple[int, ...], grain_px: float, rng: np.random.Generator) -> NDArray[Any]:
    """Smooth noise of unit variance whose patches are about so large."""
    coarse = (int(shape[0] / grain_px) + 4, int(shape[1] / grain_px) + 4)
    noise = rng.standard_normal(coarse).astype(np.float32)
    return cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)
