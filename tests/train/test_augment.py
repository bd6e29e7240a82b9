"""One warp for image and labels; randomness comes from the generator alone."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg.train.augment import jitter_intensity, random_affine, warp
from cellseg.train.recipe import AugmentRecipe


def test_image_and_labels_take_the_same_warp() -> None:
    y, x = np.mgrid[:200, :240]
    disc = (np.hypot(y - 90, x - 120) < 60).astype(np.uint16)
    image = np.repeat((disc * 255).astype(np.uint8)[..., None], 3, -1)
    for seed in range(8):
        matrix = random_affine(np.random.default_rng(seed), disc.shape, 128, AugmentRecipe())
        warped, labels = warp(image, disc, matrix, 128)
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
