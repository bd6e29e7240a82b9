"""Where each pixel of a training crop is taken from: one map for image and mask alike.

All geometric changes of a crop are composed into one map of positions and sampled once, the image
linearly, the mask at the nearest pixel, so that the two cannot drift apart and nothing is blurred
twice. Outside the image it is mirrored, mask included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.train.sections import AugmentRecipe

__all__ = ["Positions", "draw_warp", "sample_image", "sample_mask"]

_BORDER = cv2.BORDER_REFLECT_101
_LENS_STEPS = 4096


@dataclass(frozen=True)
class Positions:
    """For each pixel of a crop, the position in the image that it shows."""

    matrix: NDArray[np.float64]
    """Affine map, shape (2, 3), of crop positions (x, y) to image positions."""

    size_hw: tuple[int, int]
    """Height and width of the crop, px."""

    maps_xy: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    """Image positions x and y of each pixel, shape (H, W) each; None: as ``matrix`` says."""

    def maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Image positions x and y of each pixel, shape (H, W) each."""
        if self.maps_xy is not None:
            return self.maps_xy
        from cellseg.train.kernels.lens import place

        x, y = _own_positions(self.size_hw)
        place(x, y, self.matrix.astype(np.float32))
        return x, y


def draw_warp(
    rng: np.random.Generator,
    recipe: AugmentRecipe,
    matrix: NDArray[np.float64],
    size_hw: tuple[int, int],
) -> Positions:
    """Draw the geometric changes of one crop.

    Parameters
    ----------
    rng : Generator
        Nothing is drawn from it for what is off, so that a recipe's crops stay what they were.
    recipe : AugmentRecipe
        Chances and ranges.
    matrix : float64, shape (2, 3)
        Where the crop lies in the image, without those changes.
    size_hw : (int, int)
        Size of the crop, px.
    """
    if not recipe.enabled:
        return Positions(matrix, size_hw)
    middle = np.array([(size_hw[1] - 1) / 2, (size_hw[0] - 1) / 2])
    turn = _linear(rng, recipe)
    whole = np.vstack([matrix, (0, 0, 1)]) @ _about(middle, turn)
    bent = _bent(rng, recipe, size_hw)
    if bent is not None:
        from cellseg.train.kernels.lens import place

        place(*bent, whole[:2].astype(np.float32))
    return Positions(whole[:2], size_hw, bent)


def sample_image(image: NDArray[np.uint8], warp: Positions) -> NDArray[np.uint8]:
    """Sample an image (H, W) or (H, W, 3) linearly; smoothed first where it is made smaller."""
    reduction = np.sqrt(abs(np.linalg.det(warp.matrix[:, :2])))
    source = cv2.GaussianBlur(image, (3, 3), 0.6) if reduction > 1.25 else image
    return _sample(source, warp, cv2.INTER_LINEAR)


def sample_mask(mask: NDArray[Any], warp: Positions) -> NDArray[Any]:
    """Sample a class or label map (H, W) at the nearest pixel."""
    return _sample(mask, warp, cv2.INTER_NEAREST)


def _sample(array: NDArray[Any], warp: Positions, how: int) -> NDArray[Any]:
    height, width = warp.size_hw
    if warp.maps_xy is None:
        flags = how | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(array, warp.matrix, (width, height), flags=flags, borderMode=_BORDER)
        )
    x, y = warp.maps()
    return np.asarray(cv2.remap(array, x, y, how, borderMode=_BORDER))


def _linear(rng: np.random.Generator, recipe: AugmentRecipe) -> NDArray[np.float64]:
    """Matrix (2, 2) of flips, turns, shrinking and shear: crop to image directions."""
    turn = np.eye(2)
    if _happens(rng, recipe.hflip_p):
        turn = turn @ np.diag((-1.0, 1.0))
    if _happens(rng, recipe.vflip_p):
        turn = turn @ np.diag((1.0, -1.0))
    if _happens(rng, recipe.angle_p):
        angle = np.deg2rad(recipe.angles_deg[rng.integers(len(recipe.angles_deg))])
        cos, sin = np.round((np.cos(angle), np.sin(angle)), 12)
        turn = turn @ np.array([[cos, -sin], [sin, cos]])
    if _happens(rng, recipe.shrink_p):
        turn = turn / rng.uniform(*recipe.shrink)
    if _happens(rng, recipe.shear_p):
        shear = rng.uniform(-recipe.shear, recipe.shear)
        slanted = np.array([[1.0, shear], [0.0, 1.0]])
        turn = turn @ (slanted if rng.random() < 0.5 else slanted.T)
    return turn


def _about(middle: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix (3, 3) that applies a linear map about a point."""
    whole = np.eye(3)
    whole[:2, :2], whole[:2, 2] = turn, middle - turn @ middle
    return whole


def _bent(
    rng: np.random.Generator, recipe: AugmentRecipe, size_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Crop positions moved by fields and lenses; None if nothing is."""
    fields = [
        draw(rng, recipe, size_hw)
        for chance, draw in _FIELDS
        if _happens(rng, getattr(recipe, chance))
    ]
    barrel, pincushion = _happens(rng, recipe.barrel_p), _happens(rng, recipe.pincushion_p)
    if not (fields or barrel or pincushion):
        return None
    x, y = _own_positions(size_hw)
    if barrel or pincushion:
        _look_through_lenses(x, y, recipe, barrel, pincushion)
    for dx, dy in fields:
        x += dx
        y += dy
    return x, y


def _look_through_lenses(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    recipe: AugmentRecipe,
    barrel: bool,
    pincushion: bool,
) -> None:
    from cellseg.train.kernels.lens import bend

    height, width = x.shape
    signs = [1.0] * barrel + [-1.0] * pincushion
    centers = np.array([c for _ in signs for c in recipe.lens_centers], np.float32)
    centers *= np.array((width, height), np.float32)
    ratios = [_lens_ratios(sign * recipe.lens_amount) for sign in signs]
    tables = np.repeat(np.array(ratios, np.float32), len(recipe.lens_centers), axis=0)
    bend(x, y, centers, float(width * recipe.lens_radius), tables)


def _lens_ratios(amount: float) -> NDArray[np.float64]:
    """Tabulate ``sin(pi d / 2R) ** amount`` for d / R = 0..1; at 0 nothing moves."""
    distance = np.linspace(0, 1, _LENS_STEPS + 1)
    distance[0] = 1 / (2 * _LENS_STEPS)
    return np.sin(np.pi * distance / 2) ** amount


def _elastic(
    rng: np.random.Generator, recipe: AugmentRecipe, size_hw: tuple[int, int]
) -> list[NDArray[np.float32]]:
    """Smoothed noise of the wanted standard displacement, one field an axis."""
    fields = [_smooth_noise(rng, size_hw, recipe.elastic_sigma_px) for _ in "xy"]
    return [
        field * np.float32(recipe.elastic_px / max(float(field.std()), 1e-6)) for field in fields
    ]


def _ripple(
    rng: np.random.Generator, recipe: AugmentRecipe, size_hw: tuple[int, int]
) -> list[NDArray[np.float32]]:
    """Slope of a smooth relief, the steepest place moved by ``ripple`` of the width."""
    relief = _smooth_noise(rng, size_hw, recipe.ripple_sigma_px)
    slopes = [cv2.Sobel(relief, cv2.CV_32F, 1, 0), cv2.Sobel(relief, cv2.CV_32F, 0, 1)]
    largest = recipe.ripple * size_hw[1]
    return [s * np.float32(largest / max(float(np.abs(s).max()), 1e-12)) for s in slopes]


def _grid(
    rng: np.random.Generator, recipe: AugmentRecipe, size_hw: tuple[int, int]
) -> list[NDArray[np.float32]]:
    """Draw moves of a grid's nodes, linear between them."""
    height, width = size_hw
    nodes = recipe.grid_cells + 1
    fields = []
    for side in (width, height):
        moves = rng.uniform(-1, 1, (nodes, nodes)).astype(np.float32)
        moves *= np.float32(recipe.grid * side / recipe.grid_cells)
        fields.append(_stretched(moves, size_hw))
    return fields


_FIELDS = (("elastic_p", _elastic), ("ripple_p", _ripple), ("grid_p", _grid))


def _smooth_noise(
    rng: np.random.Generator, size_hw: tuple[int, int], sigma_px: float
) -> NDArray[np.float32]:
    """Noise smoothed by a Gaussian; made small and enlarged, which smoothness allows.

    Two samples a sigma hold a Gaussian's spectrum to about a thousandth; at 512 px and sigma 8 this
    is ten times faster than smoothing at full size.
    """
    step = max(1.0, sigma_px / 2)
    small_hw = [max(4, int(np.ceil(side / step)) + 3) for side in size_hw]
    noise = rng.standard_normal(small_hw, dtype=np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma_px / step, borderType=cv2.BORDER_REFLECT_101)
    return _stretched(smooth, size_hw, cv2.INTER_CUBIC)


def _stretched(
    field: NDArray[np.float32], size_hw: tuple[int, int], how: int = cv2.INTER_LINEAR
) -> NDArray[np.float32]:
    """Spread a grid over the crop, its outer nodes on the corners' pixels."""
    rows, columns = field.shape
    height, width = size_hw
    matrix = np.array(
        [[(columns - 1) / max(width - 1, 1), 0, 0], [0, (rows - 1) / max(height - 1, 1), 0]]
    )
    flags = how | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(field, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    )


def _own_positions(size_hw: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    height, width = size_hw
    x, y = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    x[:] = np.arange(width, dtype=np.float32)
    y[:] = np.arange(height, dtype=np.float32)[:, None]
    return x, y


def _happens(rng: np.random.Generator, chance: float) -> bool:
    return chance > 0 and bool(rng.random() < chance)
