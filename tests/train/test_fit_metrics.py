"""Scores logged while training against scikit-learn and the seeds' formulas."""

from __future__ import annotations

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")

from sklearn import metrics as oracle  # noqa: E402

from cellseg.errors import RecipeError  # noqa: E402
from cellseg.train.objectives import METRICS, SEED_METRICS, make_metric, metric_name  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ORACLES = {
    "dice": oracle.f1_score,
    "iou": oracle.jaccard_score,
    "precision": oracle.precision_score,
    "recall": oracle.recall_score,
}


def batch(seed: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, max(classes, 2), (3, 6, 6))
    found = rng.dirichlet(np.ones(max(classes, 2)), (3, 6, 6)).astype(np.float32)
    return truth, found if classes > 1 else found[..., 1:]


@pytest.mark.parametrize("kind", ORACLES)
@pytest.mark.parametrize("classes", [1, 3])
def test_image_score_is_the_mean_of_scikit_learns_over_images_and_classes(
    kind: str, classes: int
) -> None:
    metric, expected = make_metric(kind), []
    labels = list(range(1, max(classes, 2)))
    for seed in (0, 1):
        truth, found = batch(seed, classes)
        metric.update_state(truth, found)
        decided = found.argmax(-1) if classes > 1 else (found[..., 0] >= 0.5).astype(int)
        for true, guess in zip(truth, decided, strict=True):
            flat = (true.ravel(), guess.ravel())
            expected.extend(ORACLES[kind](*flat, labels=labels, average=None, zero_division=0))
    assert float(metric.result()) == pytest.approx(np.mean(expected), rel=1e-5)


def test_an_image_without_the_class_is_left_out() -> None:
    metric = make_metric("dice")
    empty = np.zeros((1, 4, 4, 1), np.float32)
    metric.update_state(empty, empty)
    metric.update_state(empty + 1, empty + 1)
    assert float(metric.result()) == 1.0


def test_soft_scores_are_the_seeds_formulas() -> None:
    truth = np.array([1, 1, 0, 0], np.float32).reshape(1, 2, 2, 1)
    found = np.array([0.8, 0.4, 0.2, 0.1], np.float32).reshape(1, 2, 2, 1)
    expected = {
        "dice_coef": 3.4 / 4.5,
        "iou_coef": 1.2 / 2.3,
        "sensitivity": 0.5,
        "specificity": 1.0,
        "binary_accuracy": 0.75,
        "pixel_accuracy": 0.75,
    }
    for name, value in expected.items():
        assert float(make_metric(name)(truth, found)) == pytest.approx(value, rel=1e-5), name


def test_accuracy_of_classes_is_scikit_learns() -> None:
    truth, found = batch(0, 4)
    expected = oracle.accuracy_score(truth.ravel(), found.argmax(-1).ravel())
    assert float(make_metric("accuracy")(truth, found)) == pytest.approx(expected)


@pytest.mark.parametrize("name", [*SEED_METRICS, "val_dice_coef", "val_binary_accuracy"])
def test_the_seeds_names_are_understood(name: str) -> None:
    assert metric_name(name) in METRICS


def test_an_unknown_metric_is_named_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="metric='dice_coeff'") as caught:
        make_metric("dice_coeff")
    assert caught.value.hint == "did you mean 'dice_coef'?"
