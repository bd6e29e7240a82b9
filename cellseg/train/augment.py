"""Random changes of a training crop: one warp for image and labels, then intensities.

All randomness comes from the generator passed in, so a crop is a function of (seed, epoch, index).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.train.recipe import AugmentRecipe


def random_affine(
    rng: np.random.Generator, image_hw: tuple[int, int], crop_px: int, recipe: AugmentRecipe
) -> NDArray[np.float64]:
    """Matrix (2, 3) that takes crop coordinates (x, y) to image coordinates.

    Zoom, angle and mirror are random; the crop's centre is random over the image, kept inside
    as far as the image is large enough.
    """
    zoom = _log_uniform(rng, recipe.scale)
    angle = rng.uniform(0, 2 * np.pi) if recipe.rotate else 0.0
    mirror = rng.choice((-1.0, 1.0)) if recipe.rotate else 1.0
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    turn = np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    height, width = image_hw
    reach = crop_px / zoom / 2
    centre = np.array([_centre(rng, width, reach), _centre(rng, height, reach)])
    half = (crop_px - 1) / 2
    return np.column_stack([turn, centre - turn @ (half, half)])


def warp(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint16],
    matrix: NDArray[np.float64],
    crop_px: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Apply one affine map to image (linear) and labels (nearest); outside is mirrored."""
    size, border = (crop_px, crop_px), cv2.BORDER_REFLECT_101
    shrinks = np.hypot(matrix[0, 0], matrix[1, 0]) > 1.25
    flag = cv2.WARP_INVERSE_MAP
    # Area-like smoothing before a strong reduction, or thin structures alias.
    source = cv2.GaussianBlur(image, (3, 3), 0.6) if shrinks else image
    warped = cv2.warpAffine(source, matrix, size, flags=cv2.INTER_LINEAR | flag, borderMode=border)
    ids = cv2.warpAffine(labels, matrix, size, flags=cv2.INTER_NEAREST | flag, borderMode=border)
    return warped, ids


def jitter_intensity(
    image: NDArray[np.uint8], rng: np.random.Generator, recipe: AugmentRecipe
) -> NDArray[np.uint8]:
    """Random gamma, contrast, colour, blur, noise and inversion of an RGB crop (H, W, 3)."""
    if rng.random() < recipe.grey_p:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < recipe.blur_p:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(*recipe.blur_sigma_px))
    is_grey = bool((image[..., 0] == image[..., 2]).all())
    image = cv2.LUT(image, _random_lut(rng, recipe, is_grey))
    if rng.random() < recipe.noise_p:
        image = _add_noise(image, rng, rng.uniform(0, recipe.noise_sigma) * 255, is_grey)
    if rng.random() < recipe.invert_p:
        image = 255 - image
    return image


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
