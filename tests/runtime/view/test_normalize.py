"""The intensity range: exact, joint over channels, the same for every reader of the slide."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from cellseg.errors import SlideError
from cellseg.runtime.kernels import LOADED
from cellseg.runtime.slides.slide import ArraySlide, Level
from cellseg.runtime.view.normalize import (
    Intensities,
    Normalize,
    apply_lut,
    build_lut,
    full_range,
    measure_image,
    measure_slide,
)
from tests.slides import scene

WANTED = Normalize("slide-percentile", 1, 99)
images = npst.arrays(
    st.sampled_from([np.uint8, np.uint16]),
    npst.array_shapes(min_dims=2, max_dims=3, max_side=9),
)


def percentiles_of(image: NDArray[Any], low: float, high: float) -> tuple[Any, ...]:
    return tuple(np.percentile(image, (low, high), method="inverted_cdf"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_table_maps_low_to_black_high_to_white_and_never_falls(dtype: Any) -> None:
    lut = build_lut((20, 120), dtype)
    assert (lut[:21] == 0).all()
    assert (lut[120:] == 255).all()
    assert lut[70] == 128
    assert (np.diff(lut.astype(int)) >= 0).all()


def test_full_range_keeps_uint8_and_takes_the_high_byte_of_uint16() -> None:
    assert np.array_equal(build_lut(full_range(np.uint8), np.uint8), np.arange(256))
    wide = build_lut(full_range(np.uint16), np.uint16)
    assert np.array_equal(wide, np.arange(65536) >> 8)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_blank_image_stays_blank(value: int) -> None:
    image = np.full((4, 4, 3), value, np.uint8)
    assert (measure_image(image, WANTED).seen(image) == 0).all()


@pytest.mark.parametrize("loaded", [False, True])
@given(image=images)
def test_apply_is_indexing(loaded: bool, image: NDArray[Any]) -> None:
    lut = build_lut((3, 90), image.dtype)
    with mock.patch.object(LOADED, "is_set", return_value=loaded):
        assert np.array_equal(apply_lut(image, lut), lut[image])


def test_bytes_at_odd_places_are_mapped() -> None:
    image = np.arange(7, dtype=np.uint8)[1:]
    lut = build_lut((2, 5), image.dtype)
    with mock.patch.object(LOADED, "is_set", return_value=True):
        assert np.array_equal(apply_lut(image, lut), lut[image])


def test_non_contiguous_image_is_mapped() -> None:
    image, lut = scene()[::2, ::3], build_lut((3, 90), np.uint8)
    assert np.array_equal(apply_lut(image, lut), lut[image])


def test_table_of_another_dtype_is_refused() -> None:
    with pytest.raises(SlideError, match=r"entries=256, dtype=uint16"):
        apply_lut(np.zeros((2, 2), np.uint16), build_lut((0, 9), np.uint8))


@pytest.mark.parametrize("pair", [(50, 50), (-1, 9), (1, 101), (9, 1)])
def test_percentiles_out_of_order_are_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(SlideError, match="low < high"):
        Normalize("slide-percentile", *pair)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(SlideError, match="kind='tile'"):
        Normalize("tile")  # type: ignore[arg-type]


def test_float_image_is_refused() -> None:
    with pytest.raises(SlideError, match="dtype=float32"):
        measure_image(np.zeros((2, 2, 3), np.float32), WANTED)


def test_small_image_is_measured_whole() -> None:
    image = scene()
    slide = ArraySlide(image)
    expected = Intensities(percentiles_of(image, 1, 99))
    assert measure_slide(slide, WANTED) == measure_image(image, WANTED) == expected


def test_none_reads_nothing() -> None:
    slide = ArraySlide(scene(dtype=np.uint16))
    assert measure_slide(slide, Normalize("none")) == Intensities((0, 65535))


class _Pyramid:
    """Two-level slide of constant levels that notes what is read."""

    path, mpp, kind, properties = "<pyramid>", None, "slide", {}
    dtype = np.dtype(np.uint8)

    def __init__(self, *sizes: int) -> None:
        self.levels = tuple(Level(size, size, sizes[0] / size) for size in sizes)
        self.read: list[tuple[int, tuple[int, int], tuple[int, int]]] = []

    def read_region(
        self, level: int, l_yx: tuple[int, int], hw: tuple[int, int]
    ) -> NDArray[np.uint8]:
        self.read.append((level, l_yx, hw))
        return np.full((*hw, 3), 10 * level + (l_yx[0] > 0), np.uint8)

    def close(self) -> None: ...


def test_large_slide_is_measured_at_its_lowest_level_of_a_megapixel() -> None:
    slide = _Pyramid(8000, 2000, 500)
    measure_slide(slide, Normalize("slide-percentile", 1, 99))
    assert {level for level, _, _ in slide.read} == {1}
    assert sum(h * w for _, _, (h, w) in slide.read) == 2000 * 2000


def test_large_slide_without_pyramid_is_measured_on_a_fixed_grid() -> None:
    slide, again = _Pyramid(50_000), _Pyramid(50_000)
    assert measure_slide(slide, Normalize("slide-percentile", 0, 100)).value_range == (0, 1)
    measure_slide(again, Normalize("slide-percentile", 0, 100))
    assert slide.read == again.read
    assert sum(h * w for _, _, (h, w) in slide.read) < 20_000_000
    assert all(y % 256 == x % 256 == 0 for _, (y, x), _ in slide.read)
