"""Plain images: every depth and colour, and every way to be damaged."""

from __future__ import annotations

import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest

from cellseg.errors import SlideError
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.view.doubts import slide_doubts
from tests.slides import grey, overwrite, png, scene, whole


def write(path: Path, image: Any) -> Path:
    stored = image[..., [2, 1, 0, *range(3, image.shape[2])]] if image.ndim == 3 else image
    assert cv2.imwrite(str(path), stored)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_colours_and_depth(tmp_path: Path, dtype: Any) -> None:
    slide = open_slide(write(tmp_path / "a.png", scene(dtype=dtype)))
    assert slide.dtype == dtype
    assert (slide.kind, slide.mpp, slide.properties["format"]) == ("image", None, "PNG")
    assert np.array_equal(whole(slide), scene(dtype=dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_becomes_rgb(tmp_path: Path, dtype: Any, suffix: str) -> None:
    with closing(open_slide(write(tmp_path / f"a.{suffix}", grey(dtype=dtype)))) as slide:
        assert np.array_equal(whole(slide), np.dstack([grey(dtype=dtype)] * 3))


def test_rgba_is_composited_on_white(tmp_path: Path) -> None:
    rgba = np.dstack([scene(), np.full((301, 407), 255, np.uint8)])
    rgba[:100, :, 3] = 0
    pixels = whole(open_slide(write(tmp_path / "a.png", rgba)))
    assert (pixels[:100] == 255).all()
    assert np.array_equal(pixels[100:], scene()[100:])


def test_bmp_is_read(tmp_path: Path) -> None:
    slide = open_slide(write(tmp_path / "a.bmp", scene()))
    assert np.array_equal(whole(slide), scene())


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_format_follows_content_not_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(imagecodecs.jpeg_encode(scene(), level=95))
    slide = open_slide(tmp_path / name)
    assert slide.properties["format"] == "JPEG"
    assert np.abs(whole(slide).astype(int) - scene()).mean() < 3


def test_png_palette_becomes_rgb(tmp_path: Path) -> None:
    colours = bytes([255, 0, 0, 0, 255, 0])
    (tmp_path / "a.png").write_bytes(png((2, 1), 8, 3, b"\0\0\1", (b"PLTE", colours)))
    assert whole(open_slide(tmp_path / "a.png")).tolist() == [[[255, 0, 0], [0, 255, 0]]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)], ids=str)
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_thin_images_are_read(tmp_path: Path, shape: tuple[int, int], suffix: str) -> None:
    slide = open_slide(write(tmp_path / f"a.{suffix}", scene(*shape)))
    assert whole(slide).shape == (*shape, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
@pytest.mark.parametrize("part", [0.0002, 0.3, 0.9])
def test_truncated_image_is_refused(tmp_path: Path, suffix: str, part: float) -> None:
    path = write(tmp_path / f"a.{suffix}", scene())
    data = path.read_bytes()
    path.write_bytes(data[: max(12, int(len(data) * part))])
    with pytest.raises(SlideError, match="truncated"):
        open_slide(path)


def test_a_jpeg_with_a_hole_in_it_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", scene(600, 800))
    middle = path.stat().st_size // 2
    overwrite(path, middle, bytes(2048))
    with pytest.raises(SlideError, match="damaged: its JPEG data"):
        open_slide(path)


def test_image_that_claims_gigapixels_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png((100_000, 100_000), 8, 2, b""))
    with pytest.raises(SlideError, match="size=100000x100000") as caught:
        open_slide(tmp_path / "a.png")
    assert "vips tiffsave" in str(caught.value.hint)


def test_image_of_no_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png((0, 5), 8, 2, b""))
    with pytest.raises(SlideError, match="at least one pixel"):
        open_slide(tmp_path / "a.png")


def test_mpp_can_be_given(tmp_path: Path) -> None:
    assert open_slide(write(tmp_path / "a.png", scene()), mpp=0.5).mpp == (0.5, 0.5)


@pytest.mark.parametrize("frames", [1, 3])
def test_frames_of_an_animation_that_are_not_read_are_named(tmp_path: Path, frames: int) -> None:
    path = tmp_path / "a.png"
    control = (b"acTL", struct.pack(">II", frames, 0))
    path.write_bytes(png((2, 1), 8, 0, b"\0\x07\x09", control))
    with closing(open_slide(path)) as slide:
        doubts = slide_doubts(slide)
    assert ["frames 2 to 3" in doubt for doubt in doubts] == [True] * (frames > 1)
