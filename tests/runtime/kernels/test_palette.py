"""Painting: the kernel against its NumPy twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.kernels.palette import paint

if TYPE_CHECKING:
    from numpy.typing import NDArray

PALETTE = np.array([[0, 0, 0], [255, 0, 10], [3, 200, 90]], np.uint8)


def paint_twin(
    rgb: NDArray[np.uint8], classes: NDArray[np.uint8], fill: int, outline: int, width: int
) -> NDArray[np.uint8]:
    edge = np.zeros(classes.shape, bool)
    for step in range(1, width + 1):
        edge[step:] |= classes[step:] != classes[:-step]
        edge[:-step] |= classes[:-step] != classes[step:]
        edge[:, step:] |= classes[:, step:] != classes[:, :-step]
        edge[:, :-step] |= classes[:, :-step] != classes[:, step:]
    weight = np.where(classes == 0, 0, np.where(edge, outline, fill))[..., None]
    mixed = rgb.astype(int) * (256 - weight) + PALETTE[classes].astype(int) * weight
    return ((mixed + 128) >> 8).astype(np.uint8)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 256), st.integers(0, 256), st.integers(1, 3))
def test_kernel_equals_numpy(seed: int, fill: int, outline: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (12, 9, 3)).astype(np.uint8)
    classes = np.repeat(np.repeat(rng.integers(0, 3, (4, 3)), 3, 0), 3, 1).astype(np.uint8)
    expected = paint_twin(rgb, classes, fill, outline, width)
    paint(rgb, classes, classes, PALETTE, fill, outline, width)
    np.testing.assert_array_equal(rgb, expected)


def test_touching_objects_of_one_class_are_told_apart_by_labels() -> None:
    rgb = np.zeros((3, 6, 3), np.uint8)
    classes = np.ones((3, 6), np.uint8)
    labels = np.repeat(np.array([[1, 2]], np.uint32), 3, 1).repeat(3, 0)
    paint(rgb, classes, labels, PALETTE, 0, 256, 1)
    assert rgb[1, :, 0].tolist() == [0, 0, 255, 255, 0, 0]
