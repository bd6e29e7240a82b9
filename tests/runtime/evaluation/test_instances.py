"""Scores of one image, against assignment by scipy, scikit-image and cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment
from skimage.metrics import adapted_rand_error, variation_of_information

from cellseg.runtime.evaluation import overlap as overlap_module
from cellseg.runtime.evaluation.instances import THRESHOLDS, score_instances
from cellseg.runtime.evaluation.overlap import Overlap

IMAGE = np.uint16, (6, 9)
PAIRS = st.tuples(*2 * [hnp.arrays(*IMAGE, elements=st.sampled_from([0, 1, 2, 3, 700]))])


def iou_table(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of every pair, object by object."""
    ids = [np.unique(labels[labels > 0]) for labels in (predicted, truth)]
    table = np.zeros([each.size for each in ids])
    for row, p in enumerate(ids[0]):
        for column, t in enumerate(ids[1]):
            both = (predicted == p) & (truth == t)
            table[row, column] = both.sum() / ((predicted == p) | (truth == t)).sum()
    return table


def assigned(table: np.ndarray, min_iou: float) -> int:
    """Match as StarDist does: by the assignment with most pairs above the threshold."""
    rows, columns = linear_sum_assignment(-(table >= min_iou).astype(float))
    return int((table[rows, columns] >= min_iou).sum())


@given(PAIRS)
@settings(max_examples=150, deadline=None)
def test_matches_are_those_of_an_optimal_assignment(pair: tuple[np.ndarray, np.ndarray]) -> None:
    table = iou_table(*pair)
    found = score_instances(*pair).matched
    assert found == tuple(assigned(table, threshold) for threshold in THRESHOLDS)


def test_two_halves_of_a_cell_are_one_match_not_two() -> None:
    truth, halves = np.array([[1, 1, 1, 1]]), np.array([[3, 3, 4, 4]])
    for found, true in ((halves, truth), (truth, halves)):
        assert score_instances(found, true).matched[:2] == (1, 0)


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_panoptic_quality_follows_its_equation(pair: tuple[np.ndarray, np.ndarray]) -> None:
    table = iou_table(*pair)
    hits = table[table > 0.5]
    misses = sum(table.shape) - 2 * hits.size
    expected = hits.sum() / (hits.size + misses / 2) if hits.size + misses else 1.0
    assert score_instances(*pair).pq == pytest.approx(expected)


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_rand_error_and_information_are_those_of_scikit_image(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    predicted, truth = (labels.astype(int) for labels in pair)
    found = score_instances(predicted, truth)
    if not truth.any():
        assert (found.adapted_rand_error, found.vi_split, found.vi_merge) == (None, None, None)
        return
    split, merge = variation_of_information(truth, predicted, ignore_labels=(0,))
    assert found.vi_split == pytest.approx(split, abs=1e-9)
    assert found.vi_merge == pytest.approx(merge, abs=1e-9)
    both = (truth > 0) & (predicted > 0)
    has_pairs = [
        (np.bincount(labels[both], minlength=1) > 1).any() for labels in (truth, predicted)
    ]
    if all(has_pairs):  # else scikit-image divides by zero
        error, _, _ = adapted_rand_error(truth, predicted, ignore_labels=(0,))
        assert found.adapted_rand_error == pytest.approx(error, abs=1e-9)


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_splits_and_merges_are_mirror_images(pair: tuple[np.ndarray, np.ndarray]) -> None:
    one, other = score_instances(*pair), score_instances(*pair[::-1])
    assert (one.splits, one.merges) == (other.merges, other.splits)


def test_a_split_a_merge_a_miss_and_an_invention_are_told_apart() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 3, 3, 0, 4, 4, 0, 0, 0]])
    found = np.array([[5, 5, 6, 6, 0, 7, 7, 7, 7, 0, 0, 0, 0, 8, 8]])
    score = score_instances(found, truth)
    assert (score.splits, score.merges) == (1, 1)
    assert (score.predicted, score.truth) == (4, 4)
    assert score.count_error == 0.0  # all four errors, and the count does not show one


def test_a_sliver_of_the_neighbour_is_no_merge() -> None:
    truth = np.array([[1, 1, 1, 1, 2, 2, 2, 2]])
    found = np.array([[5, 5, 5, 5, 5, 6, 6, 6]])
    assert score_instances(found, truth).merges == 0


def test_precision_of_a_known_case() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, 2]])
    found = np.array([[5, 5, 5, 0, 0, 6, 6, 6, 6, 6]])  # IoU 0.75 and 1
    score = score_instances(found, truth)
    assert score.matched == (2, 2, 2, 2, 2, 2, 1, 1, 1, 1)
    assert score.ap == pytest.approx((6 * 1 + 4 * (1 / 3)) / 10)
    assert score.f1(9) == 0.5


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [(0, 0, (1, 1, 1, 0)), (1, 0, (0, 0, 0, 1)), (0, 1, (0, 0, 0, 1))],
)
def test_images_without_objects_have_a_score(
    found: int, true: int, expected: tuple[float, ...]
) -> None:
    score = score_instances(np.full((2, 2), found), np.full((2, 2), true))
    assert (score.ap, score.f1(), score.pq, score.count_error) == expected


@given(PAIRS, st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_bands_and_large_ids_change_nothing(
    pair: tuple[np.ndarray, np.ndarray], band_px: int
) -> None:
    whole = Overlap.of(*pair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap_module, "_BAND_PX", band_px)
        patch.setattr(overlap_module, "_MOST_KEYS", 100)  # so that 700 is renumbered
        banded = Overlap.of(*pair)
    for name in ("predicted_px", "truth_px", "predicted", "truth", "shared_px"):
        assert np.array_equal(getattr(whole, name), getattr(banded, name)), name


def test_labels_beyond_32_bits_are_told_apart() -> None:
    truth = np.array([[2**40, 2**40 + 1]])
    assert score_instances(truth, truth).matched[0] == 2


def test_a_low_threshold_and_unequal_shapes_are_refused() -> None:
    labels = np.zeros((2, 2), int)
    with pytest.raises(ValueError, match=r"min_iou must be >= 0\.5"):
        Overlap.of(labels, labels).count_matches(0.4)
    with pytest.raises(ValueError, match=r"predicted=\(2, 2\), truth=\(2, 3\)"):
        Overlap.of(labels, np.zeros((2, 3), int))
