"""One warp for image and labels; randomness comes from the generator alone."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg.train.augment.crop import jitter_intensity, jitter_stains, random_affine, sharpened
from cellseg.train.augment.warp import Positions, sample_image, sample_mask
from cellseg.train.sections import AugmentRecipe


def test_image_and_labels_take_the_same_warp() -> None:
    y, x = np.mgrid[:200, :240]
    disc = (np.hypot(y - 90, x - 120) < 60).astype(np.uint16)
    image = np.repeat((disc * 255).astype(np.uint8)[..., None], 3, -1)
    for seed in range(8):
        matrix = random_affine(np.random.default_rng(seed), disc.shape, 128, AugmentRecipe())
        warp = Positions(matrix, (128, 128))
        warped, labels = sample_image(image, warp), sample_mask(disc, warp)
        differ = (warped[..., 0] > 127) != (labels > 0)
        assert differ.mean() < 0.004  # linear against nearest: the outline only


def test_a_crop_stays_inside_an_image_that_is_large_enough() -> None:
    recipe = AugmentRecipe(scale=(1.0, 1.0), rotate=False)
    for seed in range(20):
        matrix = random_affine(np.random.default_rng(seed), (300, 400), 128, recipe)
        x, y = matrix @ (0, 0, 1)
        assert 0 <= x <= 400 - 128
        assert 0 <= y <= 300 - 128


@pytest.mark.parametrize("invert_p", [0.0, 1.0])
def test_inversion_turns_dark_to_bright(invert_p: float) -> None:
    recipe = AugmentRecipe(invert_p=invert_p, noise_p=0, blur_p=0)
    image = np.full((8, 8, 3), 30, np.uint8)
    out = jitter_intensity(image, np.random.default_rng(0), recipe)
    assert (out.mean() > 127) == bool(invert_p)


def test_a_grey_image_stays_grey() -> None:
    image = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 3, -1)
    for seed in range(10):
        out = jitter_intensity(image, np.random.default_rng(seed), AugmentRecipe())
        assert (out[..., 0] == out[..., 2]).all()


def test_the_same_generator_gives_the_same_crop() -> None:
    image = np.random.default_rng(3).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    one = jitter_intensity(image, np.random.default_rng(1), AugmentRecipe())
    two = jitter_intensity(image, np.random.default_rng(1), AugmentRecipe())
    np.testing.assert_array_equal(one, two)


def test_stains_of_strength_nothing_leave_the_image_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    same = jitter_stains(image, np.random.default_rng(1), 0.0)
    assert np.abs(same.astype(int) - image).max() <= 1


def test_stains_change_by_densities_as_a_numpy_twin_says() -> None:
    image = np.random.default_rng(0).integers(20, 256, (16, 16, 3)).astype(np.uint8)
    gains = 1 + np.random.default_rng(4).uniform(-0.2, 0.2, 3)
    stains = np.array([(0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776)])
    density = -np.log10((image + 1.0) / 256)
    changed = density @ np.linalg.inv(stains) @ np.diag(gains) @ stains
    expected = np.clip(256 * 10**-changed - 1, 0, 255)
    found = jitter_stains(image, np.random.default_rng(4), 0.2)
    assert np.abs(found - expected).max() <= 1.5


def test_sharpening_keeps_a_flat_image_and_raises_an_edge() -> None:
    flat = np.full((9, 9, 3), 90, np.uint8)
    np.testing.assert_array_equal(sharpened(flat, 1.0), flat)
    flat[:, 5:] = 120
    assert sharpened(flat, 0.5).max() > 120


def test_what_is_not_enabled_changes_nothing() -> None:
    recipe = AugmentRecipe(enabled=False, invert_p=1, noise_p=1)
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(jitter_intensity(image, np.random.default_rng(0), recipe), image)
