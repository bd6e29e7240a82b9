"""Kernels of frames against NumPy."""

from __future__ import annotations

import cv2
import numpy as np

from cellseg.runtime.kernels.frame import (
    gather,
    laplacian_sums,
    look_up,
    measure_cells,
    split_channels,
)

RNG = np.random.default_rng(3)


def test_look_up_is_indexing() -> None:
    image = RNG.integers(0, 2**16, (7, 9)).astype(np.uint16)
    lut = RNG.integers(0, 256, 2**16).astype(np.uint8)
    out = np.empty(image.shape, np.uint8)
    look_up(image, lut, out)
    np.testing.assert_array_equal(out, lut[image])


def test_gather_is_indexing_by_rows_and_columns() -> None:
    source = RNG.integers(0, 99, (5, 6)).astype(np.uint32)
    rows, columns = RNG.integers(0, 5, 8), RNG.integers(0, 6, 11)
    out = np.empty((8, 11), np.uint32)
    gather(source, rows, columns, out)
    np.testing.assert_array_equal(out, source[np.ix_(rows, columns)])


def test_split_channels_rounds_as_numpy_does() -> None:
    steps = np.arange(-3, 2 * 255 + 4, dtype=np.float32) / np.float32(510)  # ties among them
    probabilities = np.stack([1 - steps, steps, steps], -1)[None].astype(np.float32)
    shape = probabilities.shape[:2]
    foreground, interior = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    split_channels(probabilities, 1, 0.5, 0.9, False, foreground, interior)
    np.testing.assert_array_equal(foreground, 1.0 - probabilities[..., 0] >= 0.5)
    expected = np.rint(np.clip(probabilities[..., 1], 0, 1) * 255).astype(np.uint8)
    np.testing.assert_array_equal(interior, expected)


def test_cells_are_measured_as_numpy_does() -> None:
    labels = RNG.integers(0, 4, (12, 15)).astype(np.uint32)
    classes = RNG.integers(0, 3, (12, 15)).astype(np.uint8)
    sums, votes = np.zeros((3, 3), np.int64), np.zeros((3, 3), np.int32)
    boxes = np.zeros((3, 4), np.int32)
    boxes[:, :2] = 1000
    measure_cells(labels, classes, sums, boxes, votes)
    for cell in range(3):
        y, x = np.nonzero(labels == cell + 1)
        assert sums[cell].tolist() == [len(x), x.sum(), y.sum()]
        assert boxes[cell].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert votes[cell].tolist() == np.bincount(classes[y, x], minlength=3).tolist()


def test_the_laplacian_is_that_of_opencv() -> None:
    image = RNG.integers(0, 256, (23, 31, 3)).astype(np.uint8)
    for step in (1, 4):
        sums = np.zeros(3, np.int64)
        laplacian_sums(image, 1, step, sums)
        inner = cv2.Laplacian(image[..., 1], cv2.CV_64F)[1:-1:step, 1:-1]
        assert sums.tolist() == [inner.size, inner.sum(), (inner**2).sum()]
