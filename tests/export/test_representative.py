"""Representative tiles show what there is, and never what quality is measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cellseg.errors import DataError, ExportError
from cellseg.export.representative import content_hash, pick_tiles
from cellseg.runtime.fit import bring_to
from cellseg.runtime.labelled import find_images
from cellseg.runtime.normalize import Normalize
from tests.export.images import draw_discs, write_labelled, write_png

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = Normalize()


def test_same_seed_picks_the_same_tiles(tmp_path: Path) -> None:
    folder = write_labelled(tmp_path, range(8))
    one, two = (pick_tiles([folder], PLAIN, 6, 32, seed=3) for _ in range(2))
    assert len(one) == 6
    for left, right in zip(one, two, strict=True):
        np.testing.assert_array_equal(left.tile, right.tile)
    assert {tile.tile.shape for tile in one} == {(32, 32, 3)}


def test_masks_and_labels_are_not_images(tmp_path: Path) -> None:
    folder = write_labelled(tmp_path / "labels" / "data", range(3))  # above it, any name will do
    assert [path.parent.name for path in find_images(folder)] == ["images"] * 3


def test_blank_glass_is_left_out(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(4))
    for index in range(10):
        blank = np.full((64, 64, 3), 240, np.uint8)
        blank[index, 0] = 239  # not the same file
        write_png(tmp_path / "images" / f"blank{index}.png", blank)
    picked = pick_tiles([tmp_path], PLAIN, 50, 32)
    assert not any(tile.image.name.startswith("blank") for tile in picked)


def test_near_duplicates_count_once(tmp_path: Path) -> None:
    image, _ = draw_discs(0, (64, 64))
    for index in range(5):
        again = image.copy()
        again[0, index] += 1
        write_png(tmp_path / f"{index}.png", again)
    assert len(pick_tiles([tmp_path], PLAIN, 50, 64)) == 1


def test_images_that_quality_is_measured_on_are_left_out_under_any_name(tmp_path: Path) -> None:
    train, test = tmp_path / "train", tmp_path / "test"
    write_labelled(train, range(3))
    write_labelled(test, range(2, 5))
    (train / "images" / "2.png").rename(train / "images" / "renamed.png")
    held_out = {content_hash(path) for path in find_images(test)}
    picked = pick_tiles([train], PLAIN, 50, 32, exclude=held_out)
    assert {tile.image.name for tile in picked} == {"0.png", "1.png"}


def test_rare_folder_counts_as_much_as_a_common_one(tmp_path: Path) -> None:
    rare = write_labelled(tmp_path / "rare", range(2))
    common = write_labelled(tmp_path / "common", range(100, 120))
    picked = pick_tiles([rare, common], PLAIN, 12, 32)
    assert 4 <= sum(tile.source == 0 for tile in picked) <= 8


def test_intensity_range_is_applied_before_the_cut(tmp_path: Path) -> None:
    image, _ = draw_discs(0)
    write_png(tmp_path / "dim.png", image // 8)
    (tile,) = pick_tiles([tmp_path], Normalize("slide-percentile", 1, 99), 1, 64)
    assert tile.tile.max() == 255


def test_small_image_repeats_its_border(tmp_path: Path) -> None:
    write_png(tmp_path / "small.png", draw_discs(0, (20, 30))[0])
    (tile,) = pick_tiles([tmp_path], PLAIN, 1, 64)
    np.testing.assert_array_equal(tile.tile[19:, :30], np.repeat(tile.tile[19:20, :30], 45, 0))


def test_damaged_image_is_passed_over(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(2))
    (tmp_path / "images" / "bad.png").write_bytes(b"no image")
    assert len(pick_tiles([tmp_path], PLAIN, 4, 32)) == 4


def test_nothing_to_pick_from_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="A folder of images must exist"):
        pick_tiles([tmp_path / "none"], PLAIN)
    with pytest.raises(ExportError, match="none left"):
        pick_tiles([tmp_path], PLAIN)
    write_png(tmp_path / "blank.png", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ExportError, match="must show something"):
        pick_tiles([tmp_path], PLAIN, 4, 32)


def test_tiles_are_cut_at_the_scale_that_training_saw(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(1))  # 80 x 64 px
    (tile,) = pick_tiles([tmp_path], PLAIN, 1, 32, fits=((40, 40),))
    image, _ = draw_discs(0)
    scaled = bring_to(image, (40, 40))
    assert any(np.array_equal(scaled[:, x : x + 32], tile.tile) for x in range(9))
