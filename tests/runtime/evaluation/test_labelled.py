"""Labelled folders are read as their classes.json says, or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cellseg.errors import DataError
from cellseg.runtime.evaluation.labelled import read_labelled
from cellseg.runtime.view.normalize import Normalize
from tests.export.drawn_images import draw_discs, write_labelled, write_png

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["background", "nucleus"]


def test_image_mask_and_labels_are_read(tmp_path: Path) -> None:
    (item,) = read_labelled(write_labelled(tmp_path, range(1)), NAMES, Normalize())
    image, labels = draw_discs(0)
    np.testing.assert_array_equal(item.image, image)
    np.testing.assert_array_equal(item.classes, labels > 0)
    assert item.has_cells
    np.testing.assert_array_equal(item.labels, labels)


def test_values_are_matched_to_classes_by_name(tmp_path: Path) -> None:
    write_labelled(tmp_path / "test", range(1))
    (tmp_path / "test" / "classes.json").unlink()
    mask = np.zeros((64, 80), np.uint8)
    mask[:10], mask[10:20] = 1, 2
    write_png(tmp_path / "test" / "masks" / "0.png", mask)
    listed = [{"value": i, "name": name} for i, name in enumerate(["background", "b", "a"])]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": listed}))
    (item,) = read_labelled(tmp_path / "test", ["background", "a", "b"], Normalize())
    assert [item.classes[0, 0], item.classes[10, 0], item.classes[20, 0]] == [2, 1, 0]


def test_labels_alone_mean_the_only_foreground_class(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(1))
    (tmp_path / "masks" / "0.png").unlink()
    (item,) = read_labelled(tmp_path, NAMES, Normalize())
    np.testing.assert_array_equal(item.classes, draw_discs(0)[1] > 0)


def test_masks_without_labels_have_no_cells(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(1))
    (tmp_path / "labels" / "0.png").unlink()
    (item,) = read_labelled(tmp_path, NAMES, Normalize())
    assert not item.has_cells
    assert item.classes.any()


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold images/"):
        read_labelled(tmp_path, NAMES, Normalize())


def test_image_without_any_truth_is_refused(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(1))
    for name in ("masks", "labels"):
        (tmp_path / name / "0.png").unlink()
    with pytest.raises(DataError, match="must have a mask"):
        read_labelled(tmp_path, NAMES, Normalize())


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(1))
    write_png(tmp_path / "masks" / "0.png", np.zeros((10, 10), np.uint8))
    with pytest.raises(DataError, match=r"mask=\(10, 10\), image=\(64, 80\)"):
        read_labelled(tmp_path, NAMES, Normalize())


def test_class_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'nucleus'"):
        read_labelled(write_labelled(tmp_path, range(1)), ["background", "gland"], Normalize())
