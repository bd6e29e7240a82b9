"""New stains: nuclei keep their place, the ground turns pink, dark ground is left alone."""

from __future__ import annotations

import numpy as np

from cellseg.train.stain import dim_nuclei, is_bright_field, restain


def purple_on_white() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((64, 64), np.uint16)
    labels[10:26, 10:26], labels[36:54, 30:50] = 1, 2
    image = np.full((64, 64, 3), (235, 225, 240), np.uint8)
    image[labels > 0] = (110, 60, 160)
    return image, labels


def test_nuclei_stay_denser_than_a_weakly_stained_ground() -> None:
    image, labels = purple_on_white()
    darker = 0
    for seed in range(30):
        red = restain(image, labels, np.random.default_rng(seed))[..., 0].astype(float)
        darker += red[labels > 0].mean() < red[labels == 0].mean() - 10
    assert darker >= 27  # red light sees the nuclear stain and hardly the counterstain


def test_the_ground_is_pink_in_many_crops() -> None:
    image, labels = purple_on_white()
    pink = 0
    for seed in range(60):
        ground = restain(image, labels, np.random.default_rng(seed))[labels == 0].mean(0)
        pink += ground[0] - ground[1] > 25
    assert pink > 15


def test_the_same_generator_dyes_alike_and_another_does_not() -> None:
    image, labels = purple_on_white()
    one, two, other = (restain(image, labels, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_fluorescence_is_no_bright_field() -> None:
    image, _ = purple_on_white()
    assert is_bright_field(image)
    assert not is_bright_field(255 - image)


def test_each_nucleus_gets_a_brightness_of_its_own_and_the_ground_stays() -> None:
    labels = np.zeros((64, 64), np.uint16)
    labels[8:24, 8:24], labels[36:56, 34:54] = 1, 2
    image = np.where(labels[..., None] > 0, 200, 20).repeat(3, -1).astype(np.uint8)
    changed = dim_nuclei(image, labels, np.random.default_rng(3))
    means = [changed[labels == i].mean() for i in (1, 2)]
    assert all(20 < mean < 200 for mean in means)
    assert abs(means[0] - means[1]) > 1
    assert (changed[labels == 0] == 20).all()
