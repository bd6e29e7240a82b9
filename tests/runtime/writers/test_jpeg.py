"""A JPEG of joined strips is the picture that one stream would have been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from cellseg.runtime.slides.jpeg_check import jpeg_fault
from cellseg.runtime.writers.jpeg import write_jpeg

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def picture(hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Soft shades with some noise."""
    random = np.random.default_rng(0)
    y, x = np.indices(hw)
    shades = np.stack([y % 251, x % 241, (x + y) % 239], axis=-1) // 2
    return (shades + random.integers(0, 40, (*hw, 3))).astype(np.uint8)


def test_a_picture_keeps_its_colours_sharp(tmp_path: Path) -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, 30:32] = [255, 200, 0]
    write_jpeg(tmp_path / "a.jpg", rgb)
    found = cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1]
    np.testing.assert_allclose(found[10, 30], [255, 200, 0], atol=40)


@pytest.mark.parametrize(
    "hw",
    [
        pytest.param((1, 1), id="a pixel"),
        pytest.param((256, 100), id="one strip"),
        pytest.param((257, 101), id="a strip and a row"),
        pytest.param((4000, 333), id="more strips than markers"),
        pytest.param((100, 40_001), id="lower strips: 16 bits count their blocks"),
    ],
)
def test_strips_hold_the_pixels_of_one_stream(tmp_path: Path, hw: tuple[int, int]) -> None:
    rgb = picture(hw)
    path = tmp_path / "a.jpg"
    write_jpeg(path, rgb)
    whole = imagecodecs.jpeg8_encode(rgb, level=90, colorspace="RGB", subsampling="444")
    expected = imagecodecs.jpeg8_decode(whole)
    assert jpeg_fault(path.read_bytes()) is None
    np.testing.assert_array_equal(imagecodecs.jpeg8_decode(path.read_bytes()), expected)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], expected)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_equal_pixels_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        write_jpeg(tmp_path / name, picture((1100, 900)))
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()
