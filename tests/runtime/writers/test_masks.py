"""Masks and merged pictures of plain images, and the grey probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import tifffile

from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.labels import mean_halved
from cellseg.runtime.writers import masks
from tests.fakes import fake_bundle, nuclei_picture, run_fake

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

COLOUR = np.array([255, 200, 0])


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return nuclei_picture(211, 305)


def made(tmp_path: Path, picture: NDArray[np.uint8], *names: str, **options: Any) -> Any:
    """Run the identity: the probability of foreground is the green channel."""
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    options = {"kind": "IdentityEngine", "tile_px": 64, "write": names} | options
    return run_fake(ArraySlide(picture), tmp_path / "out", bundle, **options)[0]


def pixels(path: Path) -> NDArray[np.uint8]:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_a_mask_is_black_and_white(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    result = made(tmp_path, picture, "mask", threshold=0.4)
    expected = np.where(picture[..., 1] / np.float32(255) >= 0.4, 255, 0)
    np.testing.assert_array_equal(pixels(result.files["mask.png"]), expected)


def test_the_probability_is_kept_to_one_part_in_255(
    tmp_path: Path, picture: NDArray[np.uint8]
) -> None:
    result = made(tmp_path, picture, "probability")
    with tifffile.TiffFile(result.files["probability.ome.tif"]) as tif:
        assert tif.is_ome
        np.testing.assert_array_equal(tif.asarray(), picture[..., 1])


def test_the_pyramid_of_the_probability_is_made_by_the_mean(tmp_path: Path) -> None:
    picture = nuclei_picture(700, 90)
    result = made(tmp_path, picture, "probability", tile_px=256)
    with tifffile.TiffFile(result.files["probability.ome.tif"]) as tif:
        half = tif.series[0].levels[1].asarray()
    np.testing.assert_array_equal(half, mean_halved(picture[..., 1]))


@pytest.mark.parametrize("blur_px", [1, 5, 31])
def test_a_mask_is_blurred_as_a_whole(
    tmp_path: Path,
    picture: NDArray[np.uint8],
    blur_px: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(masks, "_BAND_PX", 305 * 20)
    result = made(tmp_path, picture, "blurred-mask", blur_px=blur_px)
    expected = cv2.GaussianBlur(np.ascontiguousarray(picture[..., 1]), (blur_px, blur_px), 0)
    np.testing.assert_array_equal(pixels(result.files["blurred-mask.png"]), expected)


def test_colours_are_the_bundles(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    result = made(tmp_path, picture, "classes", "colour-mask")
    is_nucleus = tifffile.imread(result.files["classes.ome.tif"])[..., None] == 1
    found = cv2.imread(str(result.files["colour-mask.png"]))[..., ::-1]
    np.testing.assert_array_equal(found, np.where(is_nucleus, COLOUR, 0))


def test_the_merged_picture_lies_on_the_image(
    tmp_path: Path, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "_BAND_PX", 305 * 20)
    result = made(tmp_path, picture, "merged", "mask")
    is_nucleus = pixels(result.files["mask.png"])[..., None] == 255
    blended = (picture.astype(int) * 154 + COLOUR * 102 + 128) >> 8
    found = cv2.imread(str(result.files["merged.png"]))[..., ::-1]
    np.testing.assert_array_equal(found, np.where(is_nucleus, blended, picture))
