"""Interior, border and distance from labels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.train.images.cell_crops import pack_target
from cellseg.train.images.targets import (
    BACKGROUND,
    BORDER,
    INTERIOR,
    contact_weights,
    interior_border,
    normalized_distance,
)
from cellseg.train.sections.learn import TargetRecipe


def test_a_square_keeps_an_interior_inside_its_border() -> None:
    labels = np.zeros((12, 12), np.uint16)
    labels[2:10, 2:10] = 5
    classes = interior_border(labels, border_px=2, gap_px=2)
    assert (classes[4:8, 4:8] == INTERIOR).all()
    assert (classes[labels > 0] == BORDER).sum() == 64 - 16
    assert (classes[labels == 0] == BACKGROUND).all()


def test_a_thin_gap_between_two_nuclei_is_border() -> None:
    labels = np.zeros((9, 21), np.uint16)
    labels[:, :10], labels[:, 11:] = 1, 2
    assert (interior_border(labels)[:, 10] == BORDER).all()


def test_an_object_cut_by_the_crop_has_no_border_there() -> None:
    labels = np.ones((8, 8), np.uint16)
    assert (interior_border(labels) == INTERIOR).all()


def disc(radius_px: int) -> np.ndarray:
    y, x = np.ogrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1]
    return np.asarray(y * y + x * x <= radius_px * radius_px)


def test_a_border_that_grows_leaves_a_small_nucleus_its_interior() -> None:
    labels = np.zeros((16, 16), np.uint16)
    labels[6:10, 6:10] = 1
    assert (interior_border(labels) != INTERIOR).all()
    grown = interior_border(labels, border_share=0.12)
    assert (grown[7:9, 7:9] == INTERIOR).all()
    assert (grown == INTERIOR).sum() == 4


def test_a_border_that_grows_stays_as_wide_as_ever_between_small_nuclei() -> None:
    labels = np.zeros((12, 16), np.uint16)
    labels[2:10, 2:8], labels[2:10, 8:14] = 1, 2
    row = interior_border(labels, border_share=0.12)[5]
    assert "".join(map(str, row)) == "0021112222111200"


def test_the_recipes_border_is_what_the_loss_reads() -> None:
    labels = np.zeros((16, 16), np.uint16)
    labels[6:10, 6:10] = 1
    for share in (0.0, 0.12):
        classes = pack_target(labels, TargetRecipe(border_share=share))[..., 0]
        np.testing.assert_array_equal(classes, interior_border(labels, border_share=share))


def test_a_border_that_grows_is_wide_only_where_large_nuclei_touch() -> None:
    labels = np.zeros((61, 121), np.uint16)
    labels[:, :61][disc(30)], labels[:, 60:][disc(30)] = 1, 2
    row = interior_border(labels, border_share=0.12)[30]
    usual = interior_border(labels)[30]
    assert (row[:50] == usual[:50]).all()  # towards the background
    assert (row[54:67] == BORDER).all()  # 0.12 of 60 px, on each side of the contact
    assert (row[52], row[68]) == (INTERIOR, INTERIOR)
    assert (usual[54:57] == INTERIOR).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_classes_equal_a_window_by_window_look(seed: int, radius: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 4, (4, 5)), np.ones((4, 4), int)).astype(np.uint16)
    found = interior_border(labels, radius, radius)
    for y, x in np.ndindex(labels.shape):
        window = labels[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        inside = set(window[window > 0].tolist())
        if labels[y, x]:
            expected = INTERIOR if window.min() == window.max() else BORDER
        else:
            expected = BORDER if len(inside) > 1 else BACKGROUND
        assert found[y, x] == expected


def test_distance_is_one_in_the_middle_of_every_nucleus_and_zero_outside() -> None:
    labels = np.zeros((20, 40), np.uint16)
    labels[2:18, 2:18], labels[8:11, 25:30] = 1, 2
    distance = normalized_distance(labels)
    assert distance[labels == 1].max() == 1.0
    assert distance[labels == 2].max() == 1.0
    assert distance[labels == 0].max() == 0.0


def test_only_pixels_between_two_nuclei_weigh_more() -> None:
    labels = np.zeros((9, 40), np.uint16)
    labels[:, :10], labels[:, 11:20], labels[:, 30:] = 1, 2, 3
    weights = contact_weights(labels, 3.0, gap_px=2)
    assert (weights[:, 9:12] == 3).all()
    assert (weights[:, :8] == 1).all()
    assert (weights[:, 18:] == 1).all()
