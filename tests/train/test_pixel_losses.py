"""Losses against cases counted by hand, scikit-learn and Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the [train] extra")

from sklearn.metrics import log_loss  # noqa: E402

from cellseg.errors import RecipeError  # noqa: E402
from cellseg.train.losses.entropy import boundary_weights  # noqa: E402
from cellseg.train.objectives import LOSSES, SEED_LOSSES, loss_name, make_loss  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TRUTH = np.array([1, 1, 0, 0], np.float32).reshape(1, 2, 2, 1)
FOUND = np.array([0.8, 0.4, 0.2, 0.1], np.float32).reshape(1, 2, 2, 1)
# sum y p = 1.2, sum y = 2, sum p = 1.5
CASES: dict[str, tuple[dict[str, Any], float]] = {
    "bce": ({}, -np.log([0.8, 0.4, 0.8, 0.9]).mean()),
    "dice": ({}, 1 - (2 * 1.2 + 1) / (2 + 1.5 + 1)),
    "iou": ({"smooth": 0.0}, 1 - 1.2 / (3.5 - 1.2)),
    "tversky": ({"smooth": 0.0}, 1 - 1.2 / (1.2 + 0.3 * 0.3 + 0.7 * 0.8)),
    "focal_tversky": ({"smooth": 0.0}, (1 - 1.2 / (1.2 + 0.3 * 0.3 + 0.7 * 0.8)) ** 0.75),
    "focal": (
        {},
        -np.mean(
            [
                0.25 * 0.2**2 * np.log(0.8),
                0.25 * 0.6**2 * np.log(0.4),
                0.75 * 0.2**2 * np.log(0.8),
                0.75 * 0.1**2 * np.log(0.9),
            ]
        ),
    ),
    "categorical_crossentropy": (
        {"class_weights": (3.0, 5.0)},
        -np.mean([5 * np.log(0.8), 5 * np.log(0.4), 3 * np.log(0.8), 3 * np.log(0.9)]),
    ),
    "boundary_weighted": (  # with 2 x 2 px, all lie near the outline
        {"weight": 2.0},
        -2 * np.log([0.8, 0.4, 0.8, 0.9]).mean(),
    ),
}


def value(name: str, truth: Any, found: Any, **options: Any) -> float:
    return float(make_loss(name, **options)(truth, found))


def classes(seed: int = 0, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(count), (2, 8, 8)).astype(np.float32)
    return rng.integers(0, count, (2, 8, 8)), probabilities


@pytest.mark.parametrize("name", CASES)
def test_loss_equals_the_hand_count(name: str) -> None:
    options, expected = CASES[name]
    assert value(name, TRUTH, FOUND, **options) == pytest.approx(expected, rel=1e-5)


def test_halves_are_means_of_their_parts() -> None:
    bce = value("bce", TRUTH, FOUND)
    half = (bce + value("dice", TRUTH, FOUND)) / 2
    assert value("bce_dice", TRUTH, FOUND) == pytest.approx(half, rel=1e-6)
    half = (bce + value("iou", TRUTH, FOUND)) / 2
    assert value("bce_iou", TRUTH, FOUND) == pytest.approx(half, rel=1e-6)


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    truth = (rng.random((2, 24, 20, 1)) > 0.6).astype(np.float32)
    found = np.clip(truth * 0.6 + rng.random(truth.shape) * 0.4, 0, 1).astype(np.float32)
    expected = [
        metrics.structural_similarity(
            one[..., 0], two[..., 0], gaussian_weights=True, use_sample_covariance=False,
            data_range=1.0,
        )
        for one, two in zip(truth, found, strict=True)
    ]  # fmt: skip
    assert value("ssim", truth, found) == pytest.approx(1 - np.mean(expected), abs=1e-5)
    assert value("ssim", truth, truth) == pytest.approx(0, abs=1e-6)


def test_ssim_of_a_single_window_equals_the_hand_count() -> None:
    # A window of one pixel has its own mean and no variance: only the light term is left.
    light = [
        (2 * y * p + 1e-4) / (y**2 + p**2 + 1e-4)
        for y, p in zip(TRUTH.flat, FOUND.flat, strict=True)
    ]
    assert value("ssim", TRUTH, FOUND) == pytest.approx(1 - np.mean(light), rel=1e-4)


def test_the_basnet_hybrid_is_the_mean_of_its_parts() -> None:
    parts = [value(name, TRUTH, FOUND) for name in ("bce", "ssim", "iou")]
    assert value("basnet_hybrid_loss", TRUTH, FOUND) == pytest.approx(np.mean(parts), rel=1e-6)


def test_tversky_of_equal_weights_is_dice_and_iou() -> None:
    even = value("tversky", TRUTH, FOUND, alpha=0.5, beta=0.5, smooth=0.5)
    assert even == pytest.approx(value("dice", TRUTH, FOUND), rel=1e-6)
    full = value("tversky", TRUTH, FOUND, alpha=1.0, beta=1.0)
    assert full == pytest.approx(value("iou", TRUTH, FOUND), rel=1e-6)


@pytest.mark.parametrize("weights", [None, (1.0, 5.0, 0.5)])
def test_weighted_crossentropy_is_that_of_scikit_learn(weights: tuple[float, ...] | None) -> None:
    truth, found = classes()
    chosen = np.ones(3) if weights is None else np.array(weights)
    own = chosen[truth.ravel()]
    # scikit-learn divides by the weights' sum, we by the number of pixels.
    expected = log_loss(truth.ravel(), found.reshape(-1, 3), sample_weight=own) * own.mean()
    got = value("categorical_crossentropy", truth, found, class_weights=weights)
    assert got == pytest.approx(expected, rel=1e-4)


def test_focal_without_focus_is_crossentropy() -> None:
    truth, found = classes()
    plain = value("categorical_crossentropy", truth, found)
    assert value("focal", truth, found, gamma=0.0) == pytest.approx(plain, rel=1e-5)


def test_class_dice_is_the_mean_of_each_class() -> None:
    truth, found = classes()
    each = [
        value("dice", (truth == index)[..., None].astype(np.float32), found[..., index : index + 1])
        for index in range(3)
    ]
    assert value("dice", truth, found) == pytest.approx(np.mean(each), rel=1e-5)
    assert value("dice", truth, found, skip_background=True) == pytest.approx(
        np.mean(each[1:]), rel=1e-5
    )


def test_crossentropy_dice_is_the_mean_of_its_parts() -> None:
    truth, found = classes()
    half = (value("categorical_crossentropy", truth, found) + value("dice", truth, found)) / 2
    assert value("crossentropy_dice", truth, found) == pytest.approx(half, rel=1e-6)
    half = (value("bce", TRUTH, FOUND) + value("dice", TRUTH, FOUND)) / 2
    assert value("crossentropy_dice", TRUTH, FOUND) == pytest.approx(half, rel=1e-6)


def test_pixels_near_an_outline_weigh_more_and_others_one() -> None:
    truth = np.zeros((1, 9, 9, 1), np.float32)
    truth[0, :, 5:] = 1
    weights = np.asarray(keras.ops.convert_to_numpy(boundary_weights(truth, 4.0, 1)))
    np.testing.assert_array_equal(weights[0, 0], [1, 1, 1, 1, 4, 4, 1, 1, 1])
    found = np.full_like(truth, 0.5)
    assert value("boundary_weighted", truth, found, weight=4.0, radius_px=1) == pytest.approx(
        np.log(2) * weights.mean(), rel=1e-5
    )


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "interior_border"])
def test_class_indices_and_one_hot_channels_are_the_same_truth(name: str) -> None:
    truth, found = classes()
    dense = np.eye(3, dtype=np.float32)[truth]
    assert value(name, truth, found) == pytest.approx(value(name, dense, found), rel=1e-6)
    assert value(name, truth[..., None], found) == pytest.approx(value(name, dense, found))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "interior_border"])
def test_loss_is_finite_and_has_a_slope_where_truth_and_guess_are_extreme(name: str) -> None:
    truth = np.zeros((1, 4, 4, 1), np.float32)
    for found in (truth, truth + 1, truth + 0.5):
        assert np.isfinite(value(name, truth, found.astype(np.float32)))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "interior_border"])
def test_a_loss_comes_back_from_its_configuration(name: str) -> None:
    made = make_loss(name)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    truth, found = classes()
    assert float(again(truth, found)) == float(made(truth, found))


@pytest.mark.parametrize("name", SEED_LOSSES)
def test_the_seeds_names_are_understood(name: str) -> None:
    assert loss_name(name) in LOSSES


def test_an_unknown_loss_or_option_is_named_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="loss='bce_dise'") as caught:
        make_loss("bce_dise")
    assert caught.value.hint == "did you mean 'bce_dice'?"
    with pytest.raises(RecipeError, match="gama"):
        make_loss("focal", gama=2)
