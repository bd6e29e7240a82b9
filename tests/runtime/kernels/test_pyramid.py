"""Label-preserving halving: the kernel against its NumPy twin, and what it must not do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.kernels.pyramid import count_classes, halve_labels, halve_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray


def halved(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = labels.shape
    out = np.empty((-(-height // 2), -(-width // 2)), labels.dtype)
    halve_labels(labels, out)
    return out


def halved_twin(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Count the labels of each block; Counter keeps the order in which they were met."""
    height, width = labels.shape
    padded = np.pad(labels, ((0, height % 2), (0, width % 2)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 2, 2, -1, 2).transpose(0, 2, 1, 3)
    flat = blocks.reshape(*blocks.shape[:2], 4)
    winners = [[Counter(block.tolist()).most_common(1)[0][0] for block in row] for row in flat]
    return np.array(winners, labels.dtype)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 13), st.integers(1, 13), st.sampled_from("BI"))
def test_kernel_equals_numpy(seed: int, height: int, width: int, dtype: str) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (height, width)).astype(dtype)
    np.testing.assert_array_equal(halved(labels), halved_twin(labels))


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_no_label_is_made_up(seed: int) -> None:
    labels = np.random.default_rng(seed).choice(np.array([0, 3, 7, 200], np.uint8), (16, 16))
    assert set(np.unique(halved(labels))) <= set(np.unique(labels))


@pytest.mark.parametrize("offset", [0, 1])
def test_a_disc_keeps_its_area(offset: int) -> None:
    y, x = np.ogrid[:256, :256]
    disc = ((y - 128 - offset) ** 2 + (x - 128) ** 2 < 80**2).astype(np.uint8)
    assert abs(4 * int(halved(disc).sum()) - int(disc.sum())) < 0.01 * disc.sum()


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 13), st.integers(1, 13), st.integers(1, 3))
def test_the_mean_of_samples_equals_numpy(
    seed: int, height: int, width: int, channels: int
) -> None:
    samples = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    padded = np.pad(samples, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(int)
    sums = sum(padded[y::2, x::2] for y in (0, 1) for x in (0, 1))
    half = np.empty((-(-height // 2), -(-width // 2), channels), np.uint8)
    halve_samples(samples, half)
    np.testing.assert_array_equal(half, (sums + 2) // 4)


@given(seed=st.integers(0, 99), height=st.integers(1, 9), width=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_classes_are_counted_as_numpy_counts_them(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    classes = rng.choice(np.array([0, 0, 0, 1, 255], np.uint8), (height, width))
    for count in (256, 2):  # of many classes, and of few, the rest not counted
        counts = np.ones(count, np.int64)
        count_classes(classes, counts)
        expected = np.bincount(classes.ravel(), minlength=256)[:count]
        np.testing.assert_array_equal(counts - 1, expected)
