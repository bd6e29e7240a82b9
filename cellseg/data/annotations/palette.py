"""Masks in colours: which colours are meant, and which class each pixel is.

A pixel within the tolerance of a colour is that colour's. Others, blends at the edges of resized or
compressed masks, take the class of the nearest pixel that is sure, so that the blend of red and
green does not become a third class or a line of background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "DEFAULT_TOLERANCE",
    "Decoded",
    "colour_counts",
    "decode",
    "packed",
    "parse_palette",
    "rgb_of",
]

DEFAULT_TOLERANCE = 24.0
_EDGE_PX = 5
"""Blends at edges are narrower than this, also in JPEGs that halve the resolution of colours."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Decoded:
    """A mask in classes."""

    classes: NDArray[np.uint8]
    """Index of the nearest colour, shape (H, W)."""
    exact: int
    """Pixels exactly of a colour."""
    near: int
    """Pixels within the tolerance, but not exact."""
    off: int
    """Pixels beyond it, which took their neighbour's class."""
    strange: int
    """Those of them with nothing but such around: no blend at an edge, but another colour."""


def decode(mask: NDArray[np.uint8], palette: Sequence[Colour], tolerance: float) -> Decoded:
    """Turn colours into class indices.

    Parameters
    ----------
    mask : uint8, shape (H, W, 3)
        RGB.
    palette : sequence of (int, int, int)
        Colour of each class, background first.
    tolerance : float
        Largest Euclidean distance in RGB at which a pixel counts as a colour's.

    Returns
    -------
    Decoded
    """
    import cv2

    colours, inverse = np.unique(packed(mask), return_inverse=True)
    points = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.float64)
    distances = np.linalg.norm(points[:, None] - np.array(palette, float)[None], axis=-1)
    nearest, distance = distances.argmin(1), distances.min(1)
    inverse = inverse.reshape(mask.shape[:2])
    classes = nearest.astype(np.uint8)[inverse]
    sure = (distance <= tolerance)[inverse]
    off = int(sure.size - np.count_nonzero(sure))
    apart = cv2.erode((~sure).astype(np.uint8), np.ones((_EDGE_PX, _EDGE_PX), np.uint8))
    if 0 < off < sure.size:
        source = (~sure).astype(np.uint8)
        _, zones = cv2.distanceTransformWithLabels(
            source, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        of_zone = np.zeros(int(zones.max()) + 1, np.uint8)
        of_zone[zones[sure]] = classes[sure]
        classes = np.where(sure, classes, of_zone[zones])
    exact = int(np.count_nonzero((distance == 0)[inverse]))
    return Decoded(classes, exact, int(sure.size) - off - exact, off, int(apart.sum()))


def colour_counts(mask: NDArray[np.uint8]) -> dict[Colour, int]:
    """Pixels of each colour of an RGB mask."""
    values, counts = np.unique(packed(mask), return_counts=True)
    return {rgb_of(int(v)): int(n) for v, n in zip(values, counts, strict=True)}


def packed(mask: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Pack RGB (H, W, 3) to 0xRRGGBB, shape (H, W)."""
    red, green, blue = (mask[..., channel].astype(np.int32) for channel in range(3))
    return np.asarray(red << 16 | green << 8 | blue, np.int32)


def rgb_of(packed: int) -> Colour:
    """Unpack 0xRRGGBB."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def parse_palette(text: str) -> dict[str, Colour]:
    """Read ``name=#rrggbb,name=#rrggbb``.

    Examples
    --------
    >>> parse_palette("nucleus=#a000c8, cytoplasm=00a0ff")
    {'nucleus': (160, 0, 200), 'cytoplasm': (0, 160, 255)}
    """
    palette = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        name, _, colour = part.partition("=")
        digits = colour.strip().lstrip("#")
        try:
            if len(digits) != 6 or not name.strip():
                raise ValueError
            palette[name.strip()] = rgb_of(int(digits, 16))
        except ValueError:
            raise DataError(
                f"A palette looks like nucleus=#a000c8,cytoplasm=#00a0ff. Received: {part!r}."
            ) from None
    return palette
