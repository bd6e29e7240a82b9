"""Colours of a class map, painted on an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["paint"]


@kernel
def paint(
    rgb: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    objects: NDArray[Any],
    palette: NDArray[np.uint8],
    fill: int,
    outline: int,
    width: int,
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
    width : int
        Width of the outline in pixels, >= 1.

    Notes
    -----
    An edge pixel has another object above, below, left or right of it, at most ``width`` pixels
    away. Outside the array there is none, so that an object that the image cuts stays open at the
    border.
    """
    rows, columns = classes.shape
    for y in range(rows):
        for x in range(columns):
            index = classes[y, x]
            if index == 0:
                continue
            own = objects[y, x]
            edge = False
            for step in range(1, width + 1):
                edge = (
                    edge
                    or (y >= step and objects[y - step, x] != own)
                    or (y + step < rows and objects[y + step, x] != own)
                    or (x >= step and objects[y, x - step] != own)
                    or (x + step < columns and objects[y, x + step] != own)
                )
            weight = outline if edge else fill
            for channel in range(3):
                below = np.int64(rgb[y, x, channel]) * (256 - weight)
                above = np.int64(palette[index, channel]) * weight
                rgb[y, x, channel] = (below + above + 128) >> 8
