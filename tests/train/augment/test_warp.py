"""One map for image and mask: an image that is its own mask stays so through every warp."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellseg.train.augment.warp import draw_warp, sample_image, sample_mask
from cellseg.train.sections import AugmentRecipe

WARPS: dict[str, dict[str, Any]] = {
    "hflip": {"hflip_p": 1},
    "vflip": {"vflip_p": 1},
    "angle": {"angle_p": 1, "angles_deg": (30, 90, 211)},
    "shrink": {"shrink_p": 1, "shrink": (0.6, 0.9)},
    "shear": {"shear_p": 1, "shear": 0.2},
    "elastic": {"elastic_p": 1},
    "ripple": {"ripple_p": 1, "ripple_sigma_px": 12},
    "grid": {"grid_p": 1},
    "barrel": {"barrel_p": 1, "lens_centers": ((0.3, 0.4), (0.7, 0.6))},
    "pincushion": {"pincushion_p": 1},
    "all": {"hflip_p": 1, "shear_p": 1, "elastic_p": 1, "grid_p": 1, "barrel_p": 1},
}
EYE = np.eye(3)[:2]


def disc(side: int = 128) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return (np.hypot(y - 0.55 * side, x - 0.45 * side) < 0.28 * side).astype(np.uint8)


@pytest.mark.parametrize("name", WARPS)
def test_an_image_that_is_its_own_mask_stays_so(name: str) -> None:
    mask = disc()
    for seed in range(5):
        warp = draw_warp(np.random.default_rng(seed), AugmentRecipe(**WARPS[name]), EYE, mask.shape)
        found = sample_image(mask * np.uint8(255), warp) > 127
        differ = found != (sample_mask(mask, warp) > 0)
        assert differ.mean() < 0.006  # linear against nearest: the outline only


@pytest.mark.parametrize("name", sorted(set(WARPS) - {"hflip", "vflip"}))
def test_each_warp_moves_something_and_is_a_new_one_each_time(name: str) -> None:
    mask, recipe = disc(), AugmentRecipe(**WARPS[name])
    rng = np.random.default_rng(0)
    one, two = (sample_mask(mask, draw_warp(rng, recipe, EYE, mask.shape)) for _ in range(2))
    assert (one != mask).any()
    if name not in ("barrel", "pincushion"):  # lenses stand where the recipe says
        assert (one != two).any()


def test_flips_are_exact() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 3)).astype(np.uint8)
    for name, expected in (("hflip", image[:, ::-1]), ("vflip", image[::-1])):
        warp = draw_warp(np.random.default_rng(0), AugmentRecipe(**WARPS[name]), EYE, (32, 40))
        np.testing.assert_array_equal(sample_image(image, warp), expected)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_exact(turns: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
    recipe = AugmentRecipe(angle_p=1, angles_deg=(90.0 * turns,))
    warp = draw_warp(np.random.default_rng(0), recipe, EYE, (32, 32))
    np.testing.assert_array_equal(sample_mask(image, warp), np.rot90(image, turns))


def test_an_elastic_deformation_has_the_displacement_that_was_asked_for() -> None:
    recipe = AugmentRecipe(elastic_p=1, elastic_px=5, elastic_sigma_px=8)
    x, y = draw_warp(np.random.default_rng(0), recipe, EYE, (256, 256)).maps()
    rows, columns = np.mgrid[:256, :256]
    assert np.std(x - columns) == pytest.approx(5, rel=0.02)
    assert np.std(y - rows) == pytest.approx(5, rel=0.02)


def test_a_ripple_moves_its_steepest_place_by_the_part_that_was_asked_for() -> None:
    recipe = AugmentRecipe(ripple_p=1, ripple=0.03, ripple_sigma_px=20)
    x, _ = draw_warp(np.random.default_rng(0), recipe, EYE, (200, 200)).maps()
    assert np.abs(x - np.mgrid[:200, :200][1]).max() == pytest.approx(6, rel=0.01)


def test_what_is_off_draws_no_random_number() -> None:
    rng = np.random.default_rng(5)
    warp = draw_warp(rng, AugmentRecipe(), EYE, (16, 16))
    assert warp.maps_xy is None
    assert rng.random() == np.random.default_rng(5).random()


def test_positions_are_the_fields_taken_through_the_matrix() -> None:
    recipe = AugmentRecipe(grid_p=1)
    matrix = np.array([[0.8, -0.3, 5.0], [0.2, 1.1, -3.0]])
    bent = draw_warp(np.random.default_rng(1), recipe, EYE, (40, 50)).maps()
    placed = draw_warp(np.random.default_rng(1), recipe, matrix, (40, 50)).maps()
    x, y = bent
    np.testing.assert_allclose(placed[0], 0.8 * x - 0.3 * y + 5, atol=1e-3)
    np.testing.assert_allclose(placed[1], 0.2 * x + 1.1 * y - 3, atol=1e-3)
