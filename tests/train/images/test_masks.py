"""Masks of grey values, of class values and of colours become classes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from skimage.filters import threshold_otsu

from cellseg.data.form.pixels import read_mask
from cellseg.errors import DataError, SlideError
from cellseg.runtime.slides.readers import open_slide
from cellseg.train.images.masks import MaskRule, fit_mask_rule, otsu_value, read_grey, read_image
from cellseg.train.images.pairs import find_pairs
from cellseg.train.sections import ClassRecipe, Recipe
from tests.train.project import write_discs

TWO = (ClassRecipe(name="background", color=(0, 0, 0)), ClassRecipe(name="cell", color=(255, 0, 0)))


def recipe(**parts: object) -> Recipe:
    tree = {"name": "x", "sources": [{"name": "a", "path": "a"}], "target": {"kind": "classes"}}
    return Recipe.model_validate(tree | parts)


def saved(path: Path, array: np.ndarray) -> Path:
    cv2.imwrite(str(path), array)
    return path


@pytest.mark.parametrize("seed", range(6))
def test_otsu_is_scikit_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grey = np.concatenate([rng.normal(60, 20, 900), rng.normal(170, 25, 500)])
    grey = np.clip(grey, 0, 255).astype(np.uint8)
    assert otsu_value(np.bincount(grey, minlength=256)) == threshold_otsu(grey)


def test_a_cut_out_on_black_is_told_from_the_noise_around_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cut_out = rng.integers(0, 8, (40, 40)).astype(np.uint8)  # what JPEG leaves of black
    cut_out[10:25, 10:25] = 100
    rule = fit_mask_rule(recipe(), [saved(tmp_path / "a.png", cut_out)])
    assert rule.read(tmp_path / "a.png").sum() == 15 * 15


def test_masks_of_one_and_nothing_have_a_threshold_too(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4] = 1
    rule = fit_mask_rule(recipe(), [saved(tmp_path / "a.png", mask)])
    np.testing.assert_array_equal(rule.read(tmp_path / "a.png"), mask)


def test_values_are_looked_up_and_others_refused(tmp_path: Path) -> None:
    classes = [
        {"name": "background", "color": [0, 0, 0], "values": [0]},
        {"name": "cell", "color": [255, 0, 0], "values": [1, 2]},
    ]
    rule = fit_mask_rule(recipe(classes=classes), [])
    path = saved(tmp_path / "a.png", np.array([[0, 1, 2]], np.uint8))
    assert rule.read(path).tolist() == [[0, 1, 1]]
    with pytest.raises(DataError, match="holds 7"):
        rule.read(saved(tmp_path / "b.png", np.array([[0, 7]], np.uint8)))


def test_the_nearest_colour_counts(tmp_path: Path) -> None:
    classes = tuple(
        item.model_copy(update={"mask_colors": (color,)})
        for item, color in zip(TWO, [(0, 0, 0), (0, 255, 255)], strict=True)
    )
    rgb = np.array([[(0, 0, 0), (10, 240, 250), (60, 90, 90)]], np.uint8)
    path = saved(tmp_path / "a.png", rgb[..., ::-1])
    assert MaskRule(classes).read(path).tolist() == [[0, 1, 0]]


def test_masks_all_of_one_value_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all of the value 0"):
        fit_mask_rule(recipe(), [saved(tmp_path / "a.png", np.zeros((8, 8), np.uint8))])


def test_images_come_as_rgb_and_keep_16_bit(tmp_path: Path) -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 2] = 200
    assert read_image(saved(tmp_path / "r.png", red))[0, 0].tolist() == [200, 0, 0]
    deep = saved(tmp_path / "d.png", np.full((4, 4), 3000, np.uint16))
    assert read_image(deep).dtype == np.uint16
    assert read_grey(deep).max() == 255


@pytest.mark.parametrize("white", [255, 4095, 65535, 1.0])
def test_soft_edges_are_cut_between_black_and_white(tmp_path: Path, white: float) -> None:
    sharp = np.zeros((40, 40), np.float32)
    sharp[10:30, 10:30] = white
    soft = cv2.GaussianBlur(sharp, (0, 0), 3)
    dtype = np.float32 if white == 1 else np.uint8 if white == 255 else np.uint16
    path = saved(tmp_path / "a.tif", soft.astype(dtype))
    rule = fit_mask_rule(recipe(), [path])
    assert np.count_nonzero(rule.read(path) != (sharp > 0)) < 80


def test_parts_are_no_classes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", np.full((4, 4), 0.5, np.float32))
    with pytest.raises(DataError, match="whole numbers"):
        read_grey(path)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_training_reads_an_image_as_inference_does(
    tmp_path: Path, channels: int, dtype: type
) -> None:
    rng = np.random.default_rng(channels)
    image = rng.integers(0, np.iinfo(dtype).max, (9, 7, channels)).astype(dtype).squeeze()
    path = saved(tmp_path / "image.png", image)
    slide = open_slide(path)
    assert np.array_equal(read_image(path), slide.read_region(0, (0, 0), (9, 7)))
    slide.close()


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "miniswhite"},
        {"photometric": "minisblack", "extratags": [(274, "H", 1, 3, True)]},
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        {"photometric": "minisblack", "metadata": {"axes": "CYX"}, "ome": True},
    ],
    ids=["white-is-zero", "turned", "alpha", "channels-of-ome"],
)
def test_training_reads_a_tiff_as_inference_does(tmp_path: Path, options: dict[str, Any]) -> None:
    shape = {"rgb": (9, 7, 4)}.get(
        options["photometric"], (3, 9, 7) if "ome" in options else (9, 7)
    )
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.arange(np.prod(shape), dtype=np.uint16).reshape(shape), **options)
    with closing(open_slide(path)) as slide:
        assert np.array_equal(read_image(path), slide.read_region(0, (0, 0), (9, 7)))


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_mask_lies_on_its_image_whatever_orientation_both_state(
    tmp_path: Path, dtype: type, tag: int
) -> None:
    path, stored = tmp_path / "mask.tif", np.arange(1, 13, dtype=dtype).reshape(3, 4)
    turned = [(274, "H", 1, tag, True)]
    tifffile.imwrite(path, stored, photometric="minisblack", extratags=turned)
    assert read_grey(path).tolist() == stored.tolist()
    assert read_mask(path).tolist() == stored.tolist()
    assert read_image(path)[..., 0].tolist() == stored.tolist()


def test_an_image_that_inference_refuses_is_not_trained_on(tmp_path: Path) -> None:
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.zeros((2, 8, 8), np.uint8), photometric="minisblack")
    with pytest.raises(SlideError, match="2 pages of the same size"):
        read_image(stack)
    image = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    (tmp_path / "cut.jpg").write_bytes(image[1].tobytes()[:2000])  # OpenCV fills it up with grey
    with pytest.raises(SlideError, match="truncated"):
        read_image(tmp_path / "cut.jpg")


def test_an_image_of_floats_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "f.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(SlideError, match=r"f\.tif: .*at most 16 bits.*dtype=float32"):
        read_image(path)


def test_images_without_a_split_are_split_once_each(tmp_path: Path) -> None:
    write_discs(tmp_path / "a", 10, (20, 20))
    source = {"name": "a", "path": "a", "valid_part": 0.2, "test_part": 0.1}
    asked = recipe(sources=[source])
    found = {
        s: [p.stem for p in find_pairs(asked, tmp_path, s)] for s in ("train", "valid", "test")
    }
    assert {name: len(stems) for name, stems in found.items()} == {
        "train": 7,
        "valid": 2,
        "test": 1,
    }
    assert len({stem for stems in found.values() for stem in stems}) == 10
