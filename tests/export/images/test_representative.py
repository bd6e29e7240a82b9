"""Representative tiles show what there is, and never what quality is measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from cellseg.errors import ExportError, SlideError
from cellseg.export.images.representative import hold_out, pick_tiles
from cellseg.export.images.same_image import image_hash
from cellseg.runtime.evaluation.labelled import find_images
from cellseg.runtime.view.fit import bring_to
from cellseg.runtime.view.normalize import Normalize
from tests.export.drawn_images import draw_discs, write_labelled, write_png

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

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


def test_images_that_quality_is_measured_on_are_left_out_under_any_name_and_format(
    tmp_path: Path,
) -> None:
    train, test = tmp_path / "train", tmp_path / "test"
    write_labelled(train, range(3))
    write_labelled(test, range(2, 5))
    (train / "images" / "2.png").unlink()
    tifffile.imwrite(train / "images" / "renamed.tif", draw_discs(2)[0], photometric="rgb")
    held_out = {image_hash(path) for path in find_images(test)}
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
    with pytest.raises(SlideError, match="no such file or folder"):
        pick_tiles([tmp_path / "none"], PLAIN)
    with pytest.raises(ExportError, match="none left"):
        pick_tiles([tmp_path], PLAIN)
    write_png(tmp_path / "blank.png", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ExportError, match="must show something"):
        pick_tiles([tmp_path], PLAIN, 4, 32)


def test_images_that_cannot_be_read_are_not_called_blank(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(ExportError, match="must be readable. Received: none of 1"):
        pick_tiles([tmp_path], PLAIN, 4, 32)


def test_an_image_of_many_tiles_is_not_held_out_beside_others(tmp_path: Path) -> None:
    write_labelled(tmp_path / "small", range(12), hw=(32, 32))
    write_labelled(tmp_path / "large", range(20, 22), hw=(256, 256), count=40)
    tiles = pick_tiles([tmp_path], PLAIN, 60, 32)
    for seed in range(8):
        ranging, held = hold_out(tiles, 8, seed)
        assert ranging
        assert len(held) <= 10 or len({tile.part for tile in held}) == 1


def test_tiles_are_cut_at_the_scale_that_training_saw(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(1))  # 80 x 64 px
    (tile,) = pick_tiles([tmp_path], PLAIN, 1, 32, fits=((40, 40),))
    image, _ = draw_discs(0)
    scaled = bring_to(image, (40, 40))
    assert any(np.array_equal(scaled[:, x : x + 32], tile.tile) for x in range(9))


def pyramid(path: Path, image: NDArray[np.uint8], mpp: float) -> Path:
    """Write a slide of two levels, tiled."""
    per_cm = 10_000 / mpp
    with tifffile.TiffWriter(path) as tif:
        for step in (1, 4):
            tif.write(
                image[::step, ::step],
                tile=(64, 64),
                photometric="rgb",
                subfiletype=int(step > 1),
                resolution=(per_cm / step, per_cm / step),
                resolutionunit="CENTIMETER",
            )
    return path


def test_a_slide_gives_tiles_at_the_pixel_size_of_the_model(tmp_path: Path) -> None:
    image, _ = draw_discs(0, (512, 640), count=60)
    slide = pyramid(tmp_path / "slide.tif", image, mpp=0.25)
    picked = pick_tiles([slide], PLAIN, 8, 64, mpp=0.5)
    assert len(picked) == 8
    half = image.reshape(256, 2, 320, 2, 3).mean((1, 3))
    for tile in picked:
        y, x = (int(place) for place in tile.part.partition("@")[2].split(","))
        there = half[y : y + 64, x : x + 64]
        assert np.corrcoef(there.ravel(), tile.tile.ravel())[0, 1] > 0.95


def test_a_folder_of_slides_is_searched_too(tmp_path: Path) -> None:
    image, _ = draw_discs(0, (512, 640), count=60)
    pyramid(tmp_path / "a.svs", image, mpp=0.5)
    assert {tile.image.name for tile in pick_tiles([tmp_path], PLAIN, 8, 64, mpp=0.5)} == {"a.svs"}


def test_tiles_of_glass_are_not_cut_from_a_slide(tmp_path: Path) -> None:
    image = np.full((1024, 1024, 3), 240, np.uint8)
    rng = np.random.default_rng(0)
    image[:256, :256] = rng.normal((180, 90, 150), 30, (256, 256, 3)).clip(0, 255)
    slide = pyramid(tmp_path / "slide.tif", image, mpp=1.0)
    places = [tile.part.partition("@")[2] for tile in pick_tiles([slide], PLAIN, 40, 64, mpp=1.0)]
    assert places
    for place in places:
        assert all(int(side) <= 320 for side in place.split(","))  # a margin around the tissue


def test_held_out_tiles_are_of_images_of_their_own(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(12))
    tiles = pick_tiles([tmp_path], PLAIN, 30, 32)
    ranging, held = hold_out(tiles, 8)
    assert len(held) >= min(8, len(tiles) // 3)
    assert len(ranging) + len(held) == len(tiles)
    assert not {tile.image for tile in ranging} & {tile.image for tile in held}


def test_held_out_tiles_of_one_image_share_no_pixel_with_the_others(tmp_path: Path) -> None:
    image, _ = draw_discs(0, (256, 256), count=40)
    write_png(tmp_path / "one.png", image)
    tiles = pick_tiles([tmp_path], PLAIN, 30, 64)
    ranging, held = hold_out(tiles, 4)
    assert (len(tiles), len(held)) == (16, 4)
    covered = np.zeros((256, 256), int)
    for tile in (*ranging, *held):
        y, x = (int(place) for place in tile.part.partition("@")[2].split(","))
        np.testing.assert_array_equal(image[y : y + 64, x : x + 64], tile.tile)
        covered[y : y + 64, x : x + 64] += 1
    assert covered.max() == 1


def test_the_same_image_under_two_names_is_one_image(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(10))
    for path in find_images(tmp_path):
        path.with_stem(f"copy-{path.stem}").write_bytes(path.read_bytes())
    ranging, held = hold_out(pick_tiles([tmp_path], PLAIN, 30, 32), 8)
    ours, theirs = (
        {tile.image.stem.rpartition("-")[2] for tile in each} for each in (ranging, held)
    )
    assert held
    assert not ours & theirs


def test_the_same_seed_holds_out_the_same_tiles(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(12))
    tiles = pick_tiles([tmp_path], PLAIN, 30, 32)
    assert [t.part for t in hold_out(tiles, 8)[1]] == [t.part for t in hold_out(tiles, 8)[1]]


def test_one_place_at_two_scales_is_not_in_both_halves(tmp_path: Path) -> None:
    write_labelled(tmp_path, range(1), hw=(256, 256))
    tiles = pick_tiles([tmp_path], PLAIN, 8, 64, fits=(None, (128, 128)))
    assert len({tile.part for tile in tiles}) == 1
    assert hold_out(tiles, 4) == (tiles, [])
