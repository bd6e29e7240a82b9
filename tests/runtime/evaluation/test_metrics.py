"""Dice, object matching and counts against hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellseg.runtime.evaluation.metrics import count_error, dice, match_objects, object_f1

LABELS = hnp.arrays(
    np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 4)
)


def test_dice_of_half_overlapping_masks_is_a_half() -> None:
    truth = np.array([[1, 1, 0, 0]], bool)
    assert dice(np.roll(truth, 1, axis=1), truth) == 0.5


def test_two_empty_masks_agree() -> None:
    empty = np.zeros((3, 3), bool)
    assert dice(empty, empty) == 1.0
    assert object_f1(empty, empty) == 1.0


def test_objects_match_above_the_iou_and_not_at_it() -> None:
    truth, predicted = np.zeros((1, 8), int), np.zeros((1, 8), int)
    truth[0, :4], predicted[0, :2] = 1, 7  # IoU exactly 0.5
    assert match_objects(predicted, truth).true_positives == 0
    predicted[0, :3] = 7
    found = match_objects(predicted, truth)
    assert (found.true_positives, found.false_positives, found.false_negatives) == (1, 0, 0)


def test_merged_and_missed_objects_are_counted() -> None:
    truth = np.array([[1, 1, 0, 2, 2, 0, 3, 3]])
    merged = np.array([[5, 5, 5, 5, 5, 0, 0, 0]])
    found = match_objects(merged, truth)
    assert (found.true_positives, found.false_positives, found.false_negatives) == (0, 1, 3)


def test_an_iou_that_allows_two_partners_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_iou must be >= 0\.5"):
        match_objects(np.zeros((2, 2), int), np.zeros((2, 2), int), 0.3)


@given(LABELS)
@settings(max_examples=60, deadline=None)
def test_a_label_map_matches_itself_under_any_numbering(labels: np.ndarray) -> None:
    renamed = np.array([0, 90, 17, 40, 3], np.uint16)[labels]
    assert object_f1(renamed, labels) == 1.0


@given(LABELS, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_matches_equal_a_brute_force_count(truth: np.ndarray, seed: int) -> None:
    predicted = np.random.default_rng(seed).integers(0, 4, truth.shape)
    expected = 0
    for p in set(predicted[predicted > 0].tolist()):
        for t in set(truth[truth > 0].tolist()):
            both = np.sum((predicted == p) & (truth == t))
            either = np.sum((predicted == p) | (truth == t))
            expected += bool(both / either > 0.5)
    assert match_objects(predicted, truth).true_positives == expected


@pytest.mark.parametrize(("predicted", "truth", "error"), [(0, 0, 0), (3, 0, 1), (9, 10, 0.1)])
def test_count_error_is_relative_to_the_truth(predicted: int, truth: int, error: float) -> None:
    assert count_error(predicted, truth) == pytest.approx(error)
