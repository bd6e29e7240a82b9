"""Pairs of images and masks in the folders of a data set."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

pytest.importorskip("keras", reason="needs the [train] extra")

from cellseg.errors import CellsegError, DataError
from cellseg.train.images.pairs import Pair, check_sizes, find_pairs
from cellseg.train.scores.truth import labelled_images
from cellseg.train.sections import Recipe


def recipe(values: list[int]) -> Recipe:
    classes = [
        {"name": "background", "color": [0, 0, 0]},
        {"name": "cell", "color": [255, 0, 0], "values": values},
    ]
    target = {"kind": "classes"}
    sources = [{"name": "mine", "path": "mine"}]
    return Recipe.model_validate(
        {"name": "r", "classes": classes, "target": target, "sources": sources}
    )


@pytest.fixture
def only_test(tmp_path: Path) -> Path:
    """Write a set of test images alone, as one has who measures a model of others."""
    for part, array in (("images", np.zeros((8, 8, 3))), ("masks", np.eye(8))):
        folder = tmp_path / "mine" / "test" / part
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "a.png"), array.astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize("inside", ["", "mine"])
def test_a_set_of_test_images_alone_can_be_scored(inside: str, only_test: Path) -> None:
    ((count, truth),) = labelled_images(recipe([1]), only_test / inside, "test")
    assert (count, int(truth.classes.sum())) == (1, 8)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_it_has_no_other_split(split: str, only_test: Path) -> None:
    with pytest.raises(DataError, match=r"holds train/images .* Received: .*mine\."):
        find_pairs(recipe([1]), only_test, split)


def test_where_a_grey_value_is_to_be_found_training_masks_are_needed(only_test: Path) -> None:
    with pytest.raises(DataError, match="tell where .* holds train/images") as caught:
        list(labelled_images(recipe([]), only_test, "test"))
    assert "--set mask.threshold=127" in str(caught.value.hint)


@pytest.mark.parametrize(("images", "masks"), [(3, 1), (1, 3)], ids=["image", "mask"])
def test_a_stack_is_refused_before_training(tmp_path: Path, images: int, masks: int) -> None:
    pair = Pair("mine", tmp_path / "a.tif", tmp_path / "a_mask.tif")
    for path, pages in ((pair.image, images), (pair.mask, masks)):
        assert path is not None
        tifffile.imwrite(path, np.zeros((pages, 8, 8), np.uint8), photometric="minisblack")
    with pytest.raises(CellsegError, match="3 pages"):
        check_sizes([pair])


@pytest.mark.parametrize("tag", [1, 3, 6, 8])
def test_sizes_are_those_that_are_stored_whatever_orientation_is_stated(
    tmp_path: Path, tag: int
) -> None:
    pair = Pair("mine", tmp_path / "a.tif", tmp_path / "a_mask.tif")
    turned = [(274, "H", 1, tag, True)]
    for path in (pair.image, pair.mask):
        assert path is not None
        tifffile.imwrite(
            path, np.zeros((8, 12), np.uint8), photometric="minisblack", extratags=turned
        )
    check_sizes([pair])
    assert pair.mask is not None
    tifffile.imwrite(pair.mask, np.zeros((12, 8), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match="image=12x8, mask=8x12"):
        check_sizes([pair])
