"""Colours of a class map, painted on an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["paint"]


@njit(nogil=True, cache=True)
def paint(
    rgb: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    objects: NDArray[Any],
    palette: NDArray[np.uint8],
    fill: int,
    outline: int,
) -> None:
    """Blend class colours into an image: faintly inside, strongly along the edge of an object.

    Parameters
    ----------
    rgb : uint8, shape (h, w, 3)
        The image; written in place.
    classes : uint8, shape (h, w)
        Class index; 0 leaves the pixel alone.
    objects : unsigned integers, shape (h, w)
        What an edge separates: instance labels, or the class map once more.
    palette : uint8, shape (n, 3)
        Colour of each class index.
    fill, outline : int
        Weight of the colour, 0 (invisible) to 256 (opaque).

    Notes
    -----
    An edge pixel has a neighbour above, below, left or right of another object. Outside the array
    there is none, so that an object that the image cuts stays open at the border.
    """
    height, width = classes.shape
    for y in range(height):
        for x in range(width):
            index = classes[y, x]
            if index == 0:
                continue
            own = objects[y, x]
            edge = (
                (y > 0 and objects[y - 1, x] != own)
                or (y + 1 < height and objects[y + 1, x] != own)
                or (x > 0 and objects[y, x - 1] != own)
                or (x + 1 < width and objects[y, x + 1] != own)
            )
            weight = outline if edge else fill
            for channel in range(3):
                below = np.int64(rgb[y, x, channel]) * (256 - weight)
                above = np.int64(palette[index, channel]) * weight
                rgb[y, x, channel] = (below + above + 128) >> 8
