"""Scores of pixels against scikit-learn and cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from cellseg.errors import DataError
from cellseg.train.tasks.pixel_metrics import (
    boundary_f1,
    confusion_matrix,
    mean_scores,
    score_pixels,
)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_scores_are_those_of_scikit_learn(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, classes, (2, 9, 7))
    scores = score_pixels(found, truth, classes)
    labels = list(range(classes))
    options = {"labels": labels, "average": None, "zero_division": 0}
    flat = (truth.ravel(), found.ravel())
    present = np.isin(labels, [*flat[0], *flat[1]])
    for name, function in (
        ("dice", oracle.f1_score),
        ("iou", oracle.jaccard_score),
        ("precision", oracle.precision_score),
        ("recall", oracle.recall_score),
    ):
        expected = np.where(present, function(*flat, **options), np.nan)
        np.testing.assert_allclose(getattr(scores, name), expected, err_msg=name)
    np.testing.assert_array_equal(
        confusion_matrix(found, truth, classes), oracle.confusion_matrix(*flat, labels=labels)
    )


def test_a_class_in_neither_map_is_left_out_of_means() -> None:
    none = np.zeros((4, 4), int)
    one = none.copy()
    one[:2] = 1
    mean = mean_scores([score_pixels(one, one, 3), score_pixels(none, none, 3)])
    assert mean.dice[:2].tolist() == [1.0, 1.0]
    assert np.isnan(mean.dice[2])


def test_outlines_agree_up_to_the_tolerance() -> None:
    truth = np.zeros((40, 40), bool)
    truth[10:30, 10:30] = True
    assert boundary_f1(truth, truth, 0.0) == 1.0
    assert boundary_f1(np.roll(truth, 2, 0), truth, 2.0) == 1.0
    assert boundary_f1(np.roll(truth, 2, 0), truth, 1.0) < 0.6


def test_outline_of_a_shifted_square_is_counted_by_hand() -> None:
    truth = np.zeros((9, 9), bool)
    truth[3:6, 3:6] = True  # outline: 8 pixels around one
    found = np.zeros_like(truth)
    found[4, 4] = True  # outline: itself, 1 px from 4 of the 8 and sqrt(2) from the rest
    assert boundary_f1(found, truth, 1.0) == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert boundary_f1(found, truth, 0.5) == 0.0


def test_masks_without_an_outline_agree_and_disagree() -> None:
    empty, full = np.zeros((5, 5), bool), np.ones((5, 5), bool)
    spot = empty.copy()
    spot[2, 2] = True
    assert boundary_f1(empty, empty) == boundary_f1(full, full) == 1.0
    assert boundary_f1(spot, empty) == boundary_f1(empty, spot) == 0.0


def test_sizes_and_classes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"truth=\(3, 3\)"):
        score_pixels(np.zeros((2, 2), int), np.zeros((3, 3), int), 2)
    with pytest.raises(DataError, match=r"classes must be 0\.\.1.*predicted holds 0\.\.2"):
        score_pixels(np.array([[0, 2]]), np.array([[0, 1]]), 2)
