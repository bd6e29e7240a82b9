"""Scores are those of the metrics, image by image and engine by engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cellseg.export.judging.quality import versus_fp32
from cellseg.runtime.bundles.bundle import ModelCard, Quality
from cellseg.runtime.evaluation.labelled import LabelledImage
from cellseg.runtime.evaluation.quality import ModelRunner, Prediction, Score, score_images
from tests.bundles import tiny_onnx
from tests.export.drawn_images import draw_discs
from tests.export.graphs import noise
from tests.fakes import CELL_RULE, card_fields

CARD = ModelCard.model_validate(
    card_fields(head={"kind": "softmax", "instances": CELL_RULE}, threshold=0.5)
)


class Oracle(ModelRunner):
    """Knows the truth: bright pixels are nuclei."""

    def __init__(self, miss: int = 0) -> None:
        self.engine_name, self.miss, self._engine = "oracle", miss, None

    def __call__(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        bright = (image[..., 0] > 100).astype(np.float32)
        bright[: self.miss] = 0
        return np.stack([1 - bright, bright], axis=-1)


def labelled(seed: int) -> LabelledImage:
    """Discs far enough apart that each is one cell."""
    image = np.zeros((60, 40, 3), np.uint8)
    labels = np.zeros((60, 40), np.uint16)
    for index, y in enumerate((5, 25, 45), start=1):
        labels[y : y + 10, seed : seed + 12] = index
    image[labels > 0] = 200
    return LabelledImage("discs", str(seed), image, labels)


def test_perfect_model_scores_one_and_counts_every_cell() -> None:
    score = score_images(Oracle(), [labelled(0), labelled(7)], CARD, "discs")
    assert score.quality == Quality(
        dataset="discs", images=2, dice={"nucleus": 1.0}, object_f1=1.0, count_error=0.0,
        engine="oracle",
    )  # fmt: skip
    assert score.found == 6


def test_of_several_classes_an_image_counts_for_those_it_shows() -> None:
    names = ("background", "nucleus", "vacuole", "never")
    card = ModelCard.model_validate(
        card_fields(
            classes=[{"name": name, "color": (0, 0, i)} for i, name in enumerate(names)],
            channels=[{"name": name, "class_index": i} for i, name in enumerate(names)],
        )
    )
    common, rare = labelled(0), labelled(7)
    rare = replace(rare, mask=np.where(rare.labels == 1, 2, rare.labels > 0).astype(np.uint8))

    class Blind(Oracle):
        """Takes vacuoles for nuclei."""

        def __call__(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            two = super().__call__(image)
            return np.concatenate([two, np.zeros_like(two)], axis=-1)

    dice = score_images(Blind(), [common, rare], card, "both").quality.dice
    assert dice == {"nucleus": pytest.approx((1 + 0.8) / 2), "vacuole": 0.0}


def test_missing_cells_show_in_every_number() -> None:
    quality = score_images(Oracle(miss=20), [labelled(0)], CARD, "discs").quality
    assert quality.dice["nucleus"] == pytest.approx(0.8)  # 2 * 240 / (240 + 360)
    assert quality.object_f1 == pytest.approx(0.8)  # 2 found of 3
    assert quality.count_error == pytest.approx(1 / 3, abs=1e-5)


def test_image_without_labels_counts_for_dice_only() -> None:
    item = labelled(0)
    plain = replace(item, labels=np.zeros_like(item.labels), mask=item.classes, has_cells=False)
    quality = score_images(Oracle(), [plain], CARD, "discs").quality
    assert (quality.object_f1, quality.count_error) == (None, None)


def score(
    dice: float,
    f1: float | None,
    found: int,
    dataset: str = "d",
    engine: str = "e",
    images: int = 1,
) -> Score:
    quality = Quality(
        dataset=dataset, images=images, dice={"nucleus": dice}, object_f1=f1, engine=engine
    )
    return Score(quality, found)


def test_comparison_lets_images_count_alike() -> None:
    kept = versus_fp32(
        [score(0.9, 0.8, 99, "a", images=3), score(0.4, 0.8, 110, "b")],
        [score(0.5, 0.8, 100, "b"), score(0.9, 0.9, 100, "a", images=3)],
    )
    assert kept.dice_ratio == pytest.approx(3.1 / 3.2, abs=1e-5)
    assert kept.object_f1_ratio == pytest.approx(3.2 / 3.5, abs=1e-5)
    assert kept.count_drift == pytest.approx(0.045)


def test_comparison_takes_the_worst_engine() -> None:
    fp32 = [score(0.8, 0.8, 100, engine=name) for name in "xy"]
    kept = versus_fp32([score(0.8, 0.4, 100, engine="x"), score(0.4, 0.8, 120, engine="y")], fp32)
    assert (kept.dice_ratio, kept.object_f1_ratio, kept.count_drift) == (0.5, 0.5, 0.2)


def test_comparison_without_objects_or_with_nothing_to_lose_is_defined() -> None:
    kept = versus_fp32([score(0.0, None, 0)], [score(0.0, None, 0)])
    assert (kept.dice_ratio, kept.object_f1_ratio, kept.count_drift) == (1.0, None, None)


def test_runner_takes_any_size_and_gives_the_same_size() -> None:
    runner = ModelRunner(tiny_onnx(), CARD, "onnxruntime", "fp32", 1)
    for height, width in ((9, 13), (12, 12), (9, 13), (1, 1)):
        assert runner(noise(1, height, width)[0]).shape == (height, width, 2)
    runner.close()


def test_classes_are_those_of_the_threshold() -> None:
    image, _ = draw_discs(0)
    probabilities = np.full((*image.shape[:2], 2), 0.5, np.float32)
    strict = CARD.model_copy(update={"threshold": 0.6})
    free = CARD.model_copy(update={"threshold": None})
    found = [Prediction.from_probabilities(probabilities, c).classes.max() for c in (CARD, strict)]
    assert found == [1, 0]
    assert Prediction.from_probabilities(probabilities, free).classes.max() == 0  # ties: background
