"""Scores of a split, against counts done by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from cellseg.train.scores.pixel_report import format_scores
from cellseg.train.scores.truth import Truth
from cellseg.train.scores.way_scores import WayScores, pooled_dice

NAMES = ("background", "one", "two", "three")


def _scored(pairs: list[tuple[list[int], list[int]]]) -> WayScores:
    """Score rows of (truth, found)."""
    scores = WayScores("plain", NAMES)
    for index, (true, found) in enumerate(pairs):
        classes = np.array([true], np.uint8)
        truth = Truth("made", f"{index}.png", np.zeros((1, len(true), 3), np.uint8), classes)
        scores.add(truth, np.eye(4, dtype=np.float32)[np.array([found])], 0.5)
    return scores


def test_a_class_in_neither_map_is_left_out_and_a_false_pixel_of_one_counts_0() -> None:
    scores = _scored([([0, 1, 1, 1], [0, 1, 1, 1]), ([0, 1, 1, 1], [2, 1, 1, 1])])
    assert scores.dice.tolist() == [1.0, 0.5]
    assert scores.summary()["mean_dice"] == 0.75


def test_the_mean_of_images_with_a_class_leaves_false_finds_elsewhere_out() -> None:
    scores = _scored([([0, 2, 2, 2], [0, 2, 2, 2]), ([0, 1, 1, 1], [2, 1, 1, 1])])
    row = scores.summary()["classes"]["two"]
    assert (row["dice"], row["dice_where_shown"], row["images_shown"]) == (0.5, 1.0, 1)


def test_the_pooled_mean_takes_the_classes_that_the_truth_shows_anywhere() -> None:
    summary = _scored([([0, 1, 1, 1], [3, 1, 1, 0]), ([0, 2, 2, 2], [0, 2, 2, 2])]).summary()
    assert summary["mean_dice_pooled"] == pytest.approx((0.8 + 1.0) / 2)
    assert summary["classes"]["three"]["dice_pooled"] == 0.0  # found, and nowhere true
    assert summary["classes"]["three"]["dice_where_shown"] is None


def test_pooled_dice_is_the_f1_of_all_pixels() -> None:
    rng = np.random.default_rng(0)
    true, found = rng.integers(0, 4, (2, 500))
    confusion = np.zeros((4, 4), np.int64)
    np.add.at(confusion, (true, found), 1)
    assert pooled_dice(confusion) == pytest.approx(f1_score(true, found, average=None))


def test_a_split_without_foreground_has_no_mean() -> None:
    summary = _scored([([0, 0], [0, 0])]).summary()
    assert summary["mean_dice"] is None
    assert summary["mean_dice_pooled"] is None


def test_the_table_names_each_kind_of_mean() -> None:
    result = {"plain": _scored([([0, 1, 1, 1], [3, 1, 1, 0])]).summary()}
    text = format_scores(result)
    assert "| images with it | Dice, all pixels | Dice, mean of images | of those with it |" in text
    assert "| plain | one | 1 | 0.800 | 0.800 | 0.800 |" in text
    assert "mean foreground Dice 0.800 over all pixels, 0.400 as the mean of images" in text
