"""Crops that share a part of one field are found, turned and mirrored too; others are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg.data.splits.leaks import find_leaks
from cellseg.data.splits.overlaps import Points, overlapping_pairs, points_of
from cellseg.data.splits.split import SplitOptions, check_leaks, split_data
from tests.data.made import save

SIDE = 128


def field(seed: int, side: int = 400) -> np.ndarray:
    """Round cells of a few sizes and shades with grain, all drawn by one hand."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side, 3), (225, 205, 225), np.uint8)
    for _ in range(side * side // 700):
        centre, axes = rng.integers(0, side, 2).tolist(), rng.integers(4, 11, 2).tolist()
        shade = (rng.integers(60, 150, 3)).tolist()
        cv2.ellipse(image, centre, axes, float(rng.integers(180)), 0, 360, shade, -1)
    grain = rng.integers(-12, 13, image.shape)
    return cv2.GaussianBlur(np.clip(image + grain, 0, 255).astype(np.uint8), (0, 0), 1.0)


def turned(image: np.ndarray, quarters: int, mirrored: bool) -> np.ndarray:
    image = np.rot90(image, quarters)
    return np.ascontiguousarray(image[:, ::-1] if mirrored else image)


def pairs_among(images: list[np.ndarray]) -> list[tuple[int, int]]:
    found = overlapping_pairs([points_of(image) for image in images], lambda i: images[i])
    return [(item.one, item.two) for item in found]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.75])
def test_an_overlap_is_found_in_every_orientation(
    overlap: float, quarters: int, mirrored: bool
) -> None:
    whole, step = field(quarters + 1), round(SIDE * (1 - overlap))
    one, two = (
        whole[40:168, 30:158],
        turned(whole[50:178, 30 + step :][:, :SIDE], quarters, mirrored),
    )
    found = overlapping_pairs([points_of(one), points_of(two)], lambda i: (one, two)[i])
    assert [(item.one, item.two) for item in found] == [(0, 1)]
    assert found[0].likeness > 0.9
    assert found[0].share == pytest.approx(overlap * 118 / 128, abs=0.02)


def test_an_overlap_of_lossy_files_is_found() -> None:
    whole = field(9)
    crops = [whole[:SIDE, :SIDE], turned(whole[20 : 20 + SIDE, 64 : 64 + SIDE], 1, True)]
    saved = [cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 70])[1] for crop in crops]
    assert pairs_among([cv2.imdecode(data, cv2.IMREAD_COLOR) for data in saved]) == [(0, 1)]


def test_fields_drawn_alike_do_not_overlap() -> None:
    images = [field(seed, 128) for seed in range(8)]
    label = cv2.putText(np.zeros((30, 128, 3), np.uint8), "20 um", (5, 20), 0, 0.6, (255,) * 3)
    for image in images:
        image[-30:] = label  # the same in all of them, as the scale bar of a microscope
    assert pairs_among(images) == []


def test_images_without_anything_are_no_overlap() -> None:
    blank = np.full((64, 64, 3), 240, np.uint8)
    assert pairs_among([blank, blank, field(0, 64), blank[:5, :5]]) == []
    assert overlapping_pairs([], lambda i: blank) == []


def test_points_are_described_alike_in_all_orientations() -> None:
    image = field(1, 120)
    plain = points_of(image)
    for quarters in range(4):
        for mirrored in (False, True):
            other = points_of(turned(image, quarters, mirrored))
            best = (plain.surroundings @ other.surroundings.T).max(1)
            assert (best > 0.999).mean() > 0.95


def test_large_images_are_compared_reduced() -> None:
    whole = cv2.resize(field(2, 900), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    crops = [whole[:1200, :1200], whole[300:1500, 600:1800]]
    points = [points_of(crop) for crop in crops]
    assert all(isinstance(item, Points) and item.places.max() < 600 for item in points)
    assert pairs_among(crops) == [(0, 1)]


def test_a_split_keeps_overlapping_crops_together(tmp_path: Path) -> None:
    for name, seed, x, split in (
        ("a", 0, 0, "train"), ("b", 0, 70, "test"), ("c", 1, 0, "train"), ("d", 2, 0, "test"),
        ("e", 3, 0, "train"), ("f", 4, 0, "valid"),
    ):  # fmt: skip
        image = field(seed)[:SIDE, x : x + SIDE]
        mask = (image[..., 0] < 180).astype(np.uint8) * 255
        save(tmp_path / "theirs" / split / "images" / f"{name}.png", image)
        save(tmp_path / "theirs" / split / "masks" / f"{name}.png", mask)
    dataset, leaks = check_leaks(tmp_path / "theirs")
    assert [leak.kind for leak in leaks] == ["overlap"]
    assert [dataset.items[i].stem for i in (leaks[0].one, leaks[0].two)] == ["a", "b"]
    assert len(find_leaks(dataset.items)) == 1
    split_data(tmp_path / "theirs", tmp_path / "ours", SplitOptions(shares=(0.5, 0.25, 0.25)))
    (places,) = {path.parent for path in (tmp_path / "ours").glob("*/images/[ab].png")}
    assert places.is_dir()
