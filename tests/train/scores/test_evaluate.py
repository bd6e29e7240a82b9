"""Scores per image and source, and the files they are kept in."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.runtime.bundles.manifest import InteriorBorder
from cellseg.train.images.cell_crops import LabelledImage
from cellseg.train.scores.evaluate import (
    format_table,
    save_worst,
    score_images,
    summarize,
    write_scores,
)

RULE = InteriorBorder(interior_channel=1, seed_threshold=0.5, min_area_px=4)


def item(stem: str, source: str = "a") -> LabelledImage:
    """Two square nuclei."""
    labels = np.zeros((40, 48), np.uint16)
    labels[4:14, 4:14], labels[20:32, 24:40] = 1, 2
    image = np.repeat((labels > 0).astype(np.uint8)[..., None] * 200, 3, -1)
    return LabelledImage(source, stem, image, labels)


def perfect(image: np.ndarray) -> np.ndarray:
    foreground = (image[..., 0] > 100).astype(np.float32)
    return np.stack([1 - foreground, foreground, np.zeros_like(foreground)], -1)


def blind(image: np.ndarray) -> np.ndarray:
    return perfect(np.zeros_like(image))


def test_a_perfect_prediction_scores_one() -> None:
    (score,) = score_images([item("x")], perfect, RULE)
    assert (score.dice, score.f1, score.predicted, score.truth) == (1.0, 1.0, 2, 2)


def test_a_source_averages_its_images_and_pools_its_objects() -> None:
    scores = score_images([item("x"), item("y", "b")], perfect, RULE)
    scores += score_images([item("z")], blind, RULE)
    summary = summarize(scores)
    assert list(summary) == ["a", "b"]
    assert summary["a"].dice == 0.5
    assert summary["a"].f1_pooled == pytest.approx(2 / 3)
    assert summary["a"].count_error == 0.5
    assert "| a | 2 | 0.500 | 0.500 | 0.667 | 50.0 % |" in format_table(summary)


def test_scores_are_kept_worst_first(tmp_path: Path) -> None:
    scores = score_images([item("good")], perfect, RULE)
    scores += score_images([item("bad")], blind, RULE)
    write_scores(scores, tmp_path)
    rows = list(csv.DictReader((tmp_path / "per-image.csv").read_text().splitlines()))
    assert [row["stem"] for row in rows] == ["bad", "good"]
    assert json.loads((tmp_path / "summary.json").read_text())["a"]["images"] == 2


def test_the_worst_images_are_drawn_with_truth_and_prediction(tmp_path: Path) -> None:
    images = [item("x"), item("y", "b")]
    scores = score_images(images, blind, RULE)
    save_worst(
        images, scores, lambda image: np.zeros(image.shape[:2], np.uint32), tmp_path / "worst.jpg"
    )
    picture = cv2.imread(str(tmp_path / "worst.jpg"))
    assert picture.shape == (600, 2400, 3)
    green = (picture[..., 1] > 150) & (picture[..., 2] < 100)
    assert green.any()
