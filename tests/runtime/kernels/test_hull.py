"""Hulls are counted as scikit-image draws them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import convex_hull_image

from cellseg.runtime.kernels.hull import hull_pixels


@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 14))
@settings(max_examples=60, deadline=None)
def test_as_many_pixels_as_convex_hull_image_has(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.3
    mask[[0, -1], rng.integers(0, width, 2)] = True
    columns = np.arange(width)
    left = np.where(mask, columns, width).min(axis=1)
    right = np.where(mask, columns, -1).max(axis=1)
    expected = convex_hull_image(mask).sum()
    assert hull_pixels(left.astype(np.int64), right.astype(np.int64)) == expected
