"""Objects pasted from another crop: whole ones only, where none are yet, as they look."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cellseg.train.augment.paste import paste_objects

HW = (60, 80)


def disc(y: int, x: int, radius: int, index: int = 1) -> NDArray[np.uint8]:
    """Paint a class map with one disc."""
    rows, columns = np.mgrid[: HW[0], : HW[1]]
    return np.asarray((np.hypot(rows - y, columns - x) < radius) * index, np.uint8)


def paste(
    seed: int, classes: NDArray[np.uint8], other_classes: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Paste onto a dark crop from one whose colours are its rows and columns, and 200."""
    rows, columns = np.mgrid[: HW[0], : HW[1]]
    other = np.stack([rows, columns, np.full(HW, 200)], axis=-1).astype(np.uint8)
    image = np.full((*HW, 3), 10, np.uint8)
    return paste_objects(np.random.default_rng(seed), image, classes, other, other_classes)


@given(st.integers(0, 2**32 - 1))
def test_an_object_keeps_its_shape_its_class_and_its_looks(seed: int) -> None:
    source = disc(30, 40, 9, index=2)
    image, classes = paste(seed, np.zeros(HW, np.uint8), source)
    inside = ndimage.binary_erosion(classes == 2, iterations=5, border_value=1)
    places = np.argwhere(inside)
    shift = places - image[inside][:, :2]  # where each pixel lies, and where it came from
    assert (shift == shift[0]).all()
    y, x = shift[0]
    rows, columns = np.argwhere(source).T
    expected = np.zeros(HW, np.uint8)
    stays = (rows + y >= 0) & (rows + y < HW[0]) & (columns + x >= 0) & (columns + x < HW[1])
    expected[rows[stays] + y, columns[stays] + x] = 2
    np.testing.assert_array_equal(classes, expected)
    assert (image[~ndimage.binary_dilation(classes == 2, iterations=6)] == 10).all()


@given(st.integers(0, 2**32 - 1))
def test_what_was_there_stays(seed: int) -> None:
    before = disc(20, 20, 12, index=1)
    _, classes = paste(seed, before, disc(30, 40, 9, index=2))
    assert (classes[before == 1] == 1).all()


def test_the_edge_cuts_some_objects_and_leaves_others_whole() -> None:
    whole = (disc(30, 40, 9) > 0).sum()
    found = [
        (paste(seed, np.zeros(HW, np.uint8), disc(30, 40, 9))[1] > 0).sum() for seed in range(40)
    ]
    assert max(found) == whole
    assert min(found) < whole


def test_an_object_that_its_own_edge_cuts_is_not_pasted() -> None:
    image, classes = paste(0, np.zeros(HW, np.uint8), disc(3, 40, 9))
    assert not classes.any()
    assert (image == 10).all()


def test_without_a_free_place_nothing_is_pasted() -> None:
    _, classes = paste(0, np.ones(HW, np.uint8), disc(30, 40, 9, index=2))
    assert (classes == 1).all()


def test_arrays_that_came_in_are_not_written() -> None:
    image, classes = np.zeros((*HW, 3), np.uint8), np.zeros(HW, np.uint8)
    image.flags.writeable = classes.flags.writeable = False
    other = np.full((*HW, 3), 200, np.uint8)
    found = paste_objects(np.random.default_rng(0), image, classes, other, disc(30, 40, 9))
    assert found[1].any()


@pytest.mark.parametrize("side", [1, 2, 3])
def test_small_crops_take_nothing(side: int) -> None:
    image = np.zeros((side, side, 3), np.uint8)
    classes = np.ones((side, side), np.uint8)
    found = paste_objects(np.random.default_rng(0), image, classes * 0, image, classes)
    assert not found[1].any()
