"""What every input has in common: windows, and arrays as slides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg.errors import SlideError
from cellseg.runtime.slides.slide import ArraySlide, level_downsample, rgb_from_samples
from tests.slides import grey, scene

if TYPE_CHECKING:
    from pathlib import Path


@given(st.data())
def test_window_of_an_array_is_its_crop(data: st.DataObject) -> None:
    image = scene(13, 17)
    y0, x0 = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 16))
    h, w = data.draw(st.integers(1, 13 - y0)), data.draw(st.integers(1, 17 - x0))
    window = ArraySlide(image).read_region(0, (y0, x0), (h, w))
    assert np.array_equal(window, image[y0 : y0 + h, x0 : x0 + w])


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_becomes_three_equal_channels(shape: tuple[int, ...], dtype: Any) -> None:
    image = grey(5, 7, dtype)
    rgb = ArraySlide(image.reshape(shape)).read_region(0, (0, 0), (5, 7))
    assert rgb.dtype == dtype
    assert np.array_equal(rgb, np.dstack([image] * 3))


def test_bool_becomes_black_and_white() -> None:
    slide = ArraySlide(np.array([[True, False]]))
    assert slide.dtype == np.uint8
    assert slide.read_region(0, (0, 0), (1, 2))[..., 0].tolist() == [[255, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_composited_on_white(dtype: Any) -> None:
    top = np.iinfo(dtype).max
    pixels = np.array([[[0, top, 0, top], [9, 9, 9, 0], [0, 0, 0, top // 2]]], dtype)
    rgb = ArraySlide(pixels).read_region(0, (0, 0), (1, 3))
    assert rgb[0, 0].tolist() == [0, top, 0]
    assert rgb[0, 1].tolist() == [top] * 3
    assert rgb[0, 2].tolist() == [top - top // 2] * 3


def test_premultiplied_colours_only_lack_the_white() -> None:
    pixel = np.array([[[100, 0, 0, 155]]], np.uint8)
    assert rgb_from_samples(pixel, "premultiplied").tolist() == [[[200, 100, 100]]]
    assert rgb_from_samples(pixel, "ignore").tolist() == [[[100, 0, 0]]]


@pytest.mark.parametrize(
    ("level", "l_yx", "hw"),
    [(1, (0, 0), (1, 1)), (0, (-1, 0), (2, 2)), (0, (0, 0), (6, 1)), (0, (0, 7), (1, 1)),
     (0, (0, 0), (0, 3))],
)  # fmt: skip
def test_window_outside_the_level_is_refused(
    level: int, l_yx: tuple[int, int], hw: tuple[int, int]
) -> None:
    with pytest.raises(SlideError, match=f"level={level}"):
        ArraySlide(grey(5, 7)).read_region(level, l_yx, hw)


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int32), np.zeros((2, 2, 2), np.uint8),
     np.zeros((2, 2, 3, 1), np.uint8), np.zeros((0, 2), np.uint8), np.zeros(4, np.uint8)],
    ids=["float", "int32", "two channels", "four axes", "empty", "one axis"],
)  # fmt: skip
def test_array_of_another_kind_is_refused(array: Any) -> None:
    with pytest.raises(SlideError, match="Received"):
        ArraySlide(array)


def test_numbers_of_either_byte_order_are_the_same_image() -> None:
    image = grey(5, 7, np.uint16)
    swapped = ArraySlide(image.astype(">u2"))
    assert swapped.dtype == np.uint16
    assert np.array_equal(swapped.read_region(0, (0, 0), (5, 7))[..., 0], image)


def test_what_can_be_an_array_is_taken_for_one() -> None:
    class Picture:  # Pillow's images are like this
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            return scene(5, 7)

    slide = ArraySlide(Picture())  # type: ignore[arg-type]
    assert np.array_equal(slide.read_region(0, (0, 0), (5, 7)), scene(5, 7))


def test_a_path_is_no_array_and_the_hint_says_what_reads_it(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="An image is an array here") as caught:
        ArraySlide(tmp_path / "a.png")  # type: ignore[arg-type]
    assert "cellseg.segment" in str(caught.value.hint)


def test_mpp_may_be_one_number_or_two() -> None:
    assert ArraySlide(grey(), 0.5).mpp == (0.5, 0.5)
    assert ArraySlide(grey(), (0.5, 0.25)).mpp == (0.5, 0.25)
    assert ArraySlide(grey(), np.float32(0.5)).mpp == (0.5, 0.5)
    assert ArraySlide(grey()).mpp is None


@pytest.mark.parametrize("mpp", [0.0, -1.0, 1e-9, 1e9, float("nan"), float("inf")])
def test_mpp_that_is_not_positive_is_refused(mpp: float) -> None:
    with pytest.raises(SlideError, match="must be positive"):
        ArraySlide(grey(), mpp)


@pytest.mark.parametrize(
    ("full", "part", "expected"),
    [((3567, 4443), (1783, 2221), 2), ((100_000, 50_000), (97, 48), 1024),
     ((900, 1000), (300, 333), 3), ((100, 100), (40, 40), 2.5)],
)  # fmt: skip
def test_downsample_is_what_rounding_hides(
    full: tuple[int, int], part: tuple[int, int], expected: float
) -> None:
    assert level_downsample(full, part) == expected
