"""Hue, saturation, value and Lab shifts are those that NumPy and scikit-image compute."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg.train.augment.crop import jitter_intensity
from cellseg.train.augment.tones import jitter_hsv, jitter_lab
from cellseg.train.sections import AugmentRecipe
from cellseg.train.seed.augment import AUGMENT_OFF

color = pytest.importorskip("skimage.color")

STAINED = np.array([(150, 90, 160), (230, 190, 215), (90, 60, 130), (200, 120, 90)], np.uint8)


def stained() -> np.ndarray:
    """Colours as of stained tissue, some saturated and some pale."""
    mix = np.random.default_rng(0).dirichlet(np.ones(4), (24, 24))
    return np.rint(mix @ STAINED).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_hue_saturation_and_value_change_as_a_numpy_twin_says(seed: int) -> None:
    recipe = AugmentRecipe(hue_deg=25, saturation=0.3, value=0.2)
    found = jitter_hsv(stained(), np.random.default_rng(seed), recipe)
    rng = np.random.default_rng(seed)
    hsv = color.rgb2hsv(stained())
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-25, 25) / 360) % 1
    hsv[..., 1:] = np.clip(hsv[..., 1:] * (1 + rng.uniform(-1, 1, 2) * (0.3, 0.2)), 0, 1)
    apart = np.abs(found - color.hsv2rgb(hsv) * 255)
    assert apart.max() < 5  # bytes of hue are 1.4 degrees apart
    assert apart.mean() < 1


@pytest.mark.parametrize("seed", range(4))
def test_lab_is_shifted_as_a_numpy_twin_says(seed: int) -> None:
    recipe = AugmentRecipe(lab_light=12, lab_color=9)
    found = jitter_lab(stained(), np.random.default_rng(seed), recipe)
    shifted = color.rgb2lab(stained()) + np.random.default_rng(seed).uniform(-1, 1, 3) * (12, 9, 9)
    with np.errstate(all="ignore"):
        apart = np.abs(found - np.clip(color.lab2rgb(shifted), 0, 1) * 255)
    assert apart.max() < 6
    assert apart.mean() < 1.5


@pytest.mark.parametrize("jitter", [jitter_hsv, jitter_lab])
def test_grey_stays_grey_and_no_strength_changes_nothing_much(jitter: object) -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, -1)
    strong = AugmentRecipe(hue_deg=180, saturation=1, value=0.5, lab_light=30, lab_color=50)
    for seed in range(5):
        out = jitter(grey, np.random.default_rng(seed), strong).astype(int)
        assert np.ptp(out, axis=-1).max() <= 1
    off = AugmentRecipe(hue_deg=0, saturation=0, value=0, lab_light=0, lab_color=0)
    same = jitter(stained(), np.random.default_rng(0), off)
    assert np.abs(same.astype(int) - stained()).max() <= 4


@pytest.mark.parametrize("key", ["hsv_p", "lab_p"])
def test_a_recipe_switches_each_on(key: str) -> None:
    image = stained()
    off = AugmentRecipe.model_validate(AUGMENT_OFF)
    on = AugmentRecipe.model_validate(AUGMENT_OFF | {key: 1.0})
    np.testing.assert_array_equal(jitter_intensity(image, np.random.default_rng(0), off), image)
    assert (jitter_intensity(image, np.random.default_rng(0), on) != image).any()
