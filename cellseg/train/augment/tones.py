"""Random changes of a crop in another colour space: hue and saturation, lightness and tint.

Both go through OpenCV's 8-bit spaces and one table a channel, so that a crop costs two conversions;
the way there and back rounds by a few grey levels, less than what is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.train.sections import AugmentRecipe

__all__ = ["jitter_hsv", "jitter_lab"]


def jitter_hsv(
    image: NDArray[np.uint8], rng: np.random.Generator, recipe: AugmentRecipe
) -> NDArray[np.uint8]:
    """Turn the hue, and make saturation and value larger or smaller; grey stays grey.

    Parameters
    ----------
    image : uint8, shape (H, W, 3)
        RGB.
    rng : Generator
        One number each for hue, saturation and value, uniform between minus and plus its limit.
    recipe : AugmentRecipe
        ``hue_deg``, ``saturation``, ``value``.
    """
    turn = rng.uniform(-recipe.hue_deg, recipe.hue_deg) / 360 * 256
    gains = 1 + rng.uniform(-1, 1, 2) * (recipe.saturation, recipe.value)
    ramp = np.arange(256.0)
    columns = [np.rint(ramp + turn) % 256, *(np.clip(np.rint(ramp * g), 0, 255) for g in gains)]
    return _through(image, columns, cv2.COLOR_RGB2HSV_FULL, cv2.COLOR_HSV2RGB_FULL)


def jitter_lab(
    image: NDArray[np.uint8], rng: np.random.Generator, recipe: AugmentRecipe
) -> NDArray[np.uint8]:
    """Shift lightness and, of an image with colours, the tint.

    Parameters
    ----------
    image : uint8, shape (H, W, 3)
        RGB; a grey one keeps a* and b*.
    rng : Generator
        One number each for L*, a* and b*, uniform between minus and plus its limit.
    recipe : AugmentRecipe
        ``lab_light``, ``lab_color``.
    """
    light, *tints = rng.uniform(-1, 1, 3) * (recipe.lab_light, recipe.lab_color, recipe.lab_color)
    if (image[..., 0] == image[..., 2]).all() and (image[..., 0] == image[..., 1]).all():
        tints = [0.0, 0.0]
    shifts = (light * 2.55, *tints)  # L* is 0..100, a byte 0..255; a* and b* go one to one
    columns = [np.clip(np.rint(np.arange(256) + shift), 0, 255) for shift in shifts]
    return _through(image, columns, cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB)


def _through(
    image: NDArray[np.uint8], columns: list[NDArray[np.float64]], there: int, back: int
) -> NDArray[np.uint8]:
    """Look each channel up in its table, in another colour space."""
    table = np.stack(columns, -1).astype(np.uint8)[None]
    return np.asarray(cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, there), table), back))
