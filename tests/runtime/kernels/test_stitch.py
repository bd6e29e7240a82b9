"""Class decision: kernels against their NumPy twins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.kernels.stitch import (
    blank_outside,
    decide_by_argmax,
    decide_by_threshold,
    grey_foreground,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNEL_CLASSES = ([0, 1], [0, 1, 1], [0, 1, 2, -1], [-1, 1], [1, 0, 2, 2, 1])


def class_sums(
    probabilities: NDArray[np.float32], channel_class: list[int], class_count: int
) -> NDArray[np.float32]:
    """Add channels to their classes, in float32 and in order."""
    sums = np.zeros((*probabilities.shape[:2], class_count), np.float32)
    for channel, index in enumerate(channel_class):
        if index >= 0:
            sums[..., index] += probabilities[..., channel]
    return sums


def argmax_twin(sums: NDArray[np.float32]) -> NDArray[np.uint8]:
    return sums.argmax(axis=2).astype(np.uint8)


def threshold_twin(sums: NDArray[np.float32], threshold: np.float32) -> NDArray[np.uint8]:
    foreground = sums[..., 1:]
    best = foreground.argmax(axis=2).astype(np.uint8) + np.uint8(1)
    return np.where(foreground.max(axis=2) >= threshold, best, np.uint8(0))


def tile_of(seed: int, channels: int) -> NDArray[np.float32]:
    # Few distinct values, so that ties and exact thresholds occur.
    values = np.random.default_rng(seed).integers(0, 5, (9, 11, channels))
    return (values / 4).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from(CHANNEL_CLASSES), st.integers(0, 4), st.integers(0, 4))
def test_argmax_kernel_equals_numpy(seed: int, channels: list[int], y0: int, x0: int) -> None:
    tile, classes = tile_of(seed, len(channels)), max(channels) + 1
    out = np.empty((5, 7), np.uint8)
    decide_by_argmax(tile, y0, x0, np.array(channels), classes, out)
    expected = argmax_twin(class_sums(tile, channels, classes))[y0 : y0 + 5, x0 : x0 + 7]
    np.testing.assert_array_equal(out, expected)


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from(CHANNEL_CLASSES), st.sampled_from([0.25, 0.5, 0.9]))
def test_threshold_kernel_equals_numpy(seed: int, channels: list[int], threshold: float) -> None:
    tile, classes, limit = tile_of(seed, len(channels)), max(channels) + 1, np.float32(threshold)
    out = np.empty((9, 11), np.uint8)
    decide_by_threshold(tile, 0, 0, np.array(channels), classes, limit, out)
    expected = threshold_twin(class_sums(tile, channels, classes), limit)
    np.testing.assert_array_equal(out, expected)


def test_a_probability_equal_to_the_threshold_is_foreground() -> None:
    out = np.empty((1, 2), np.uint8)
    tile = np.array([[[0.3, 0.7], [0.300001, 0.699999]]], np.float32)
    decide_by_threshold(tile, 0, 0, np.array([0, 1]), 2, np.float32(0.7), out)
    assert out.tolist() == [[1, 0]]


def test_a_tie_goes_to_background() -> None:
    out = np.full((1, 1), 9, np.uint8)
    decide_by_argmax(np.full((1, 1, 2), 0.5, np.float32), 0, 0, np.array([0, 1]), 2, out)
    assert out.item() == 0


@pytest.mark.parametrize("origin_yx", [(0, 0), (37, 5), (90, 88)])
def test_blanking_equals_numpy(origin_yx: tuple[int, int]) -> None:
    mask = np.random.default_rng(3).random((7, 9)) > 0.5
    classes = np.ones((20, 24), np.uint8)
    (y0, x0), wl_per_mask = origin_yx, (100 / 7, 13.5)
    rows = ((y0 + np.arange(20) + 0.5) / wl_per_mask[0]).astype(int).clip(max=6)
    columns = ((x0 + np.arange(24) + 0.5) / wl_per_mask[1]).astype(int).clip(max=8)
    blank_outside(classes, y0, x0, mask, *wl_per_mask)
    np.testing.assert_array_equal(classes, mask[np.ix_(rows, columns)])


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from(CHANNEL_CLASSES), st.booleans())
def test_grey_kernel_equals_numpy(seed: int, channels: list[int], exclusive: bool) -> None:
    tile, classes = tile_of(seed, len(channels)), max(channels) + 1
    out = np.empty((5, 7), np.uint8)
    grey_foreground(tile, 2, 3, np.array(channels), classes, exclusive, out)
    foreground = class_sums(tile, channels, classes)[2:7, 3:10, 1:]
    sure = foreground.sum(axis=2) if exclusive else foreground.max(axis=2)
    expected = np.floor(sure.clip(0, 1) * np.float32(255) + np.float32(0.5))
    np.testing.assert_array_equal(out, expected)
