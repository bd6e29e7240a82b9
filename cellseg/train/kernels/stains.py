"""Stains of a bright-field image made stronger or weaker, pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@kernel
def mix_densities(
    image: NDArray[np.uint8],
    density: NDArray[np.float32],
    mix: NDArray[np.float32],
    shift: NDArray[np.float32],
    brightness: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """Take pixels to optical densities, through a matrix, and back.

    Parameters
    ----------
    image : uint8, shape (H, W, 3)
        RGB.
    density : float32, shape (256,)
        Optical density of each grey value.
    mix : float32, shape (3, 3)
        New densities are ``old @ mix + shift``.
    shift : float32, shape (3,)
        Added density.
    brightness : uint8, shape (n,)
        Grey value of each density in steps of 1 / 512, from 0; beyond its end the last one.
    out : uint8, shape (H, W, 3)
        Written.
    """
    height, width, _ = image.shape
    last = brightness.size - 1
    for row in range(height):
        for column in range(width):
            red = density[image[row, column, 0]]
            green = density[image[row, column, 1]]
            blue = density[image[row, column, 2]]
            for channel in range(3):
                value = (
                    red * mix[0, channel]
                    + green * mix[1, channel]
                    + blue * mix[2, channel]
                    + shift[channel]
                )
                index = int(value * 512.0 + 0.5)
                out[row, column, channel] = brightness[min(max(index, 0), last)]
