"""New stains: nuclei keep their place, the ground turns pink, dark ground is left alone."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from cellseg.train.augment.stain import (
    clouds,
    cytoplasm,
    dim_nuclei,
    fibres,
    is_bright_field,
    restain,
    tissue,
)


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


def test_cytoplasm_lies_about_nuclei_and_thins_out_away_from_them() -> None:
    _, labels = purple_on_white()
    away = distance_transform_edt(labels == 0)
    bodies = [cytoplasm(labels, np.random.default_rng(seed)) for seed in range(40)]
    stained = [body for body in bodies if body.any()]
    assert 10 <= len(stained) <= 30  # in half of the crops
    assert all(0 <= body.min() and body.max() < 2 for body in stained)
    near, far = ([body[where].mean() for body in stained] for where in (away < 3, away > 15))
    assert np.mean(near) > 5 * np.mean(far)


def test_neighbouring_bodies_are_parted_in_many_crops() -> None:
    labels = np.zeros((64, 64), np.uint16)
    labels[20:44, 14:29], labels[20:44, 35:50] = 1, 2  # 6 px apart
    parted = 0
    for seed in range(60):
        row = cytoplasm(labels, np.random.default_rng(seed))[32]
        parted += row[31:33].mean() < 0.7 * min(row[29:31].mean(), row[33:35].mean())
    assert parted > 8


def test_nothing_is_stained_about_no_nuclei() -> None:
    nothing = np.zeros((32, 32), np.uint16)
    assert not any(cytoplasm(nothing, np.random.default_rng(seed)).any() for seed in range(8))


def test_grounds_differ_and_a_fifth_of_them_is_clear() -> None:
    grounds = [tissue((48, 80), np.random.default_rng(seed)) for seed in range(100)]
    assert all(g.shape == (48, 80) and 0 <= g.min() and g.max() < 1.6 for g in grounds)
    assert 8 <= sum(not g.any() for g in grounds) <= 35
    assert len({g.tobytes() for g in grounds if g.any()}) == sum(bool(g.any()) for g in grounds)


def test_fibres_and_clouds_are_parts_of_one() -> None:
    for seed in range(20):
        for make in (fibres, clouds):
            found = make((40, 56), np.random.default_rng(seed))
            assert (found.shape, found.dtype) == ((40, 56), np.float32)
            assert 0 <= found.min() <= found.max() <= 1


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
