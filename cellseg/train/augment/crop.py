"""Random changes of a training crop: where it lies (`warp` bends it), then its intensities.

All randomness comes from the generator passed in, so a crop is a function of (seed, epoch, index).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from cellseg.train.augment.tones import jitter_hsv, jitter_lab

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.train.sections import AugmentRecipe


_STAINS = np.array([(0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776)])
_DENSITY = (-np.log10((np.arange(256) + 1) / 256)).astype(np.float32)
_BRIGHTNESS = np.clip(np.rint(256 * 10.0 ** (-np.arange(2048) / 512) - 1), 0, 255).astype(np.uint8)


def random_affine(
    rng: np.random.Generator, image_hw: tuple[int, ...], crop_px: int, recipe: AugmentRecipe
) -> NDArray[np.float64]:
    """Matrix (2, 3) that takes crop coordinates (x, y) to image coordinates.

    Zoom, angle and mirror are random; the crop's centre is random over the image, kept inside
    as far as the image is large enough.
    """
    turns = recipe.rotate and recipe.enabled
    zoom = _log_uniform(rng, recipe.scale) if recipe.enabled else 1.0
    angle = rng.uniform(0, 2 * np.pi) if turns else 0.0
    mirror = rng.choice((-1.0, 1.0)) if turns else 1.0
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    turn = np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    height, width = image_hw
    reach = crop_px / zoom / 2
    centre = np.array([_centre(rng, width, reach), _centre(rng, height, reach)])
    half = (crop_px - 1) / 2
    return np.column_stack([turn, centre - turn @ (half, half)])


def jitter_intensity(
    image: NDArray[np.uint8], rng: np.random.Generator, recipe: AugmentRecipe
) -> NDArray[np.uint8]:
    """Random stains, hue, tint, gamma, contrast, colour, blur, noise, sharpening and inversion.

    Parameters
    ----------
    image : uint8, shape (H, W, 3)
        RGB crop.
    rng : Generator
        Nothing is drawn from it for what was added later and is off.
    recipe : AugmentRecipe
        Chances and ranges.
    """
    if not recipe.enabled:
        return image
    if recipe.hed_p > 0 and rng.random() < recipe.hed_p:
        image = jitter_stains(image, rng, recipe.hed)
    if recipe.hsv_p > 0 and rng.random() < recipe.hsv_p:
        image = jitter_hsv(image, rng, recipe)
    if recipe.lab_p > 0 and rng.random() < recipe.lab_p:
        image = jitter_lab(image, rng, recipe)
    if rng.random() < recipe.grey_p:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < recipe.blur_p:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(*recipe.blur_sigma_px))
    is_grey = bool((image[..., 0] == image[..., 2]).all())
    if (recipe.gamma, recipe.contrast, recipe.colour) != ((1.0, 1.0), (1.0, 1.0), 0.0):
        image = cv2.LUT(image, _random_lut(rng, recipe, is_grey))
    if recipe.brightness_p > 0 and rng.random() < recipe.brightness_p:
        gain = rng.uniform(1, max(1.0, recipe.brightness_alpha))
        image = cv2.convertScaleAbs(image, alpha=gain, beta=rng.uniform(0, recipe.brightness_beta))
    if recipe.sharpen_p > 0 and rng.random() < recipe.sharpen_p:
        image = sharpened(image, rng.uniform(0, recipe.sharpen))
    if rng.random() < recipe.noise_p:
        image = _add_noise(image, rng, rng.uniform(0, recipe.noise_sigma) * 255, is_grey)
    if rng.random() < recipe.invert_p:
        image = 255 - image
    return image


def sharpened(image: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
    """Sharpen by the 3x3 kernel with 1 + 8k in the centre and -k around it."""
    kernel = np.full((3, 3), -strength, np.float32)
    kernel[1, 1] = 1 + 8 * strength
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def jitter_stains(
    image: NDArray[np.uint8], rng: np.random.Generator, strength: float
) -> NDArray[np.uint8]:
    """Make haematoxylin, eosin and DAB each stronger or weaker by up to ``strength``.

    Densities d = -log10((v + 1) / 256) are split into stains by the inverse of their colours,
    scaled by 1 + u and put together again, u uniform in +-strength.

    References
    ----------
    .. [1] Tellez et al., Medical Image Analysis 58, 101544 (2019): H&E jitter.
    .. [2] Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23, 291-299 (2001): stain vectors.
    """
    from cellseg.train.kernels.stains import mix_densities

    gains = 1 + rng.uniform(-strength, strength, 3)
    mix = np.linalg.inv(_STAINS) @ np.diag(gains) @ _STAINS
    out = np.empty_like(image)
    zero = np.zeros(3, np.float32)
    pixels = np.ascontiguousarray(image)
    mix_densities(pixels, _DENSITY, mix.astype(np.float32), zero, _BRIGHTNESS, out)
    return out


def _random_lut(
    rng: np.random.Generator, recipe: AugmentRecipe, is_grey: bool
) -> NDArray[np.uint8]:
    """One 256-entry table a channel, shape (1, 256, 3): gamma, new range, colour gain.

    The new range lies inside 0..1 where it is narrower, so that dim nuclei are never cut off: an
    offset that pushes them below 0 leaves labels with nothing to see, and training stalls.
    """
    ramp = np.linspace(0, 1, 256)[:, None]
    gamma, width = _log_uniform(rng, recipe.gamma), rng.uniform(*recipe.contrast)
    offset = rng.random() * (1 - width)
    colour = rng.uniform(-recipe.colour, recipe.colour, 1 if is_grey else 3)
    value = (ramp**gamma * width + offset) * (1 + colour)
    table = np.clip(np.rint(value * 255), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(table, (256, 3)))[None]


def _add_noise(
    image: NDArray[np.uint8], rng: np.random.Generator, sigma: float, is_grey: bool
) -> NDArray[np.uint8]:
    shape = (*image.shape[:2], 1 if is_grey else 3)
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _centre(rng: np.random.Generator, extent_px: int, reach_px: float) -> float:
    if extent_px <= 2 * reach_px:
        return (extent_px - 1) / 2
    return float(rng.uniform(reach_px, extent_px - reach_px))
