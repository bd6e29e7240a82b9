"""New stains: bright-field crops in other colours, fluorescent nuclei of unequal brightness.

The labelled bright-field images show hardly any eosin, and a network that never saw pink stroma
takes it for nuclei. Light that passes a stain falls off exponentially, so optical densities add:
the density of a crop is split by its labels into a nuclear part, dyed anew with a haematoxylin or
DAB colour, and the rest, dyed with an eosin colour and laid over a random fibrous ground.

References
----------
.. [1] Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23, 291-299 (2001): stain vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Optical densities in red, green, blue (Ruifrok and Johnston), normalized to unit mean.
NUCLEAR_STAINS = np.array(
    [(0.65, 0.70, 0.29), (0.65, 0.70, 0.29), (0.75, 0.55, 0.30), (0.27, 0.57, 0.78)]
)
COUNTERSTAINS = np.array(
    [(0.07, 0.99, 0.11), (0.07, 0.99, 0.11), (0.20, 0.85, 0.35), (0.30, 0.80, 0.50)]
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
    # Haematoxylin stains cytoplasm and mucus a little, too: some of the rest keeps its colour.
    kept = rng.uniform(0.0, 0.4)
    dyed = density * nuclear * rng.uniform(0.7, 2.0) + elsewhere * kept
    counter = elsewhere * rng.uniform(0.5, 3.0) + _ground(density.shape, rng)
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


def _ground(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Random fibres, clefts and clouds, density 0 to 0.9, absent in a fifth of the crops."""
    strength = max(0.0, rng.uniform(-0.2, 0.9))
    field = np.zeros(shape, np.float32)
    for cells in (4, 12, 40):
        grid = rng.random((cells, cells * int(rng.integers(1, 5))), dtype=np.float32)
        grid = grid.T if rng.random() < 0.5 else grid
        field += rng.uniform(0.2, 1.0) * cv2.resize(
            grid, shape[::-1], interpolation=cv2.INTER_CUBIC
        )
    field = (field - field.min()) / max(float(np.ptp(field)), 1e-6)
    sharpness, level = np.exp(rng.uniform(0, np.log(15))), rng.uniform(0.2, 0.7)
    return np.asarray(strength * np.clip((field - level) * sharpness, 0, 1), dtype=np.float32)
