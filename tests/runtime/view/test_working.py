"""The working view: the right level, the right scale, and windows that agree with the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellseg.errors import SlideError
from cellseg.runtime.slides.slide import ArraySlide, Level
from cellseg.runtime.view import working
from cellseg.runtime.view.working import WorkingView, axis_weights, choose_level
from tests.slides import grey, scene


class _Slide(ArraySlide):
    """Levels of a given downsample, all of them the same array."""

    kind = "slide"

    def __init__(self, mpp: float | None, *downsamples: float) -> None:
        super().__init__(grey(64, 64), mpp)
        self.levels = tuple(Level(64, 64, downsample) for downsample in downsamples)


@pytest.mark.parametrize(
    ("slide_mpp", "model_mpp", "level", "scale"),
    [(0.25, 0.5, 0, 2.0), (0.25, 1.0, 1, 1.0), (0.25, 0.99, 1, 1.0), (0.25, 0.97, 0, 3.88),
     (0.25, 8.0, 2, 2.0), (0.25, 0.25, 0, 1.0), (0.5, 0.25, 0, 0.5), (0.246, 0.25, 0, 1.0)],
)  # fmt: skip
def test_coarsest_level_that_is_fine_enough_is_chosen(
    slide_mpp: float, model_mpp: float, level: int, scale: float
) -> None:
    chosen, factor = choose_level(_Slide(slide_mpp, 1, 4, 16), model_mpp)
    assert (chosen, factor) == (level, pytest.approx(scale))


def test_slide_without_mpp_is_refused_with_the_option_that_gives_it() -> None:
    with pytest.raises(SlideError, match="does not say how large its pixels are") as caught:
        WorkingView(_Slide(None, 1), 0.5)
    assert "--mpp" in str(caught.value.hint)


def test_a_slide_far_coarser_than_the_model_is_not_enlarged() -> None:
    assert choose_level(_Slide(2.0, 1), 0.5) == (0, 0.25)
    assert choose_level(_Slide(28.0, 1), 0.5) == (0, 1.0)


def test_image_without_mpp_is_taken_as_it_is() -> None:
    view = WorkingView(ArraySlide(scene()), 0.5)
    assert (view.level, view.scale, view.hw, view.mpp) == (0, 1.0, (301, 407), None)


def test_model_without_mpp_takes_level_0() -> None:
    assert choose_level(_Slide(0.25, 1, 4), None) == (0, 1.0)


def test_frames_are_told() -> None:
    view = WorkingView(ArraySlide(scene(), (0.2, 0.25)), 0.5)
    assert view.l0_per_wl == pytest.approx(0.5 / np.sqrt(0.05))
    assert view.mpp == pytest.approx((0.2 * view.l0_per_wl, 0.25 * view.l0_per_wl))
    assert view.hw == (round(301 / view.l0_per_wl), round(407 / view.l0_per_wl))


windows = st.tuples(
    st.integers(-20, 80), st.integers(-20, 80), st.integers(1, 70), st.integers(1, 70)
)
scales = st.one_of(st.just(1.0), st.floats(1.03, 7), st.floats(0.26, 0.97))


@settings(deadline=None)
@given(scales, windows, st.sampled_from([np.uint8, np.uint16]))
def test_any_window_is_the_crop_of_the_whole(
    scale: float, window: tuple[int, int, int, int], dtype: Any
) -> None:
    view = WorkingView(ArraySlide(scene(61, 47, dtype), 0.5), 0.5 * scale, (30, 200))
    y0, x0, h, w = window
    whole = view.read(0, 0, *view.hw)
    rows = np.clip(np.arange(y0, y0 + h), 0, view.hw[0] - 1)
    cols = np.clip(np.arange(x0, x0 + w), 0, view.hw[1] - 1)
    assert np.array_equal(view.read(*window), whole[np.ix_(rows, cols)])


@settings(deadline=None)
@given(scales, st.integers(1, 300), st.integers(0, 500))
def test_weights_are_whole_inside_and_independent_of_where_they_start(
    scale: float, extent: int, start: int
) -> None:
    count = max(1, int(extent / scale + 0.5))
    first, weights = axis_weights(0, count, scale, extent)
    assert (weights.sum(1) == 1 << 14).all()
    assert (weights >= -1).all()
    assert ((first >= 0) & (first + weights.shape[1] <= extent)).all()
    some = min(start, count - 1)
    part, part_weights = axis_weights(some, count - some, scale, extent)
    assert np.array_equal(part, first[some:])
    assert np.array_equal(part_weights, weights[some:])


def float_triangle(image: NDArray[np.uint8], scale: float, count: int) -> NDArray[np.float64]:
    """Reduce the rows of an image in floating point, border pixels repeated."""
    out = []
    for i in range(count):
        centre, radius = (i + 0.5) * scale - 0.5, max(scale, 1)
        at = np.arange(np.floor(centre - radius), np.ceil(centre + radius) + 1).astype(int)
        weight = np.maximum(0, 1 - np.abs(at - centre) / radius)
        rows = image[np.clip(at, 0, len(image) - 1)].astype(float)
        out.append(np.tensordot(weight / weight.sum(), rows, 1))
    return np.array(out)


@pytest.mark.parametrize("scale", [0.4, 1.5, 2.0, 2.19, 5.3])
def test_resampling_is_a_triangle_filter_to_a_grey_level(scale: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    view = WorkingView(ArraySlide(image, 0.5), 0.5 * scale)
    down = float_triangle(image, scale, view.hw[0])
    expected = float_triangle(down.swapaxes(0, 1), scale, view.hw[1]).swapaxes(0, 1)
    assert np.abs(view.read(0, 0, *view.hw) - expected).max() < 0.6


@pytest.mark.parametrize("scale", [1.0, 0.3, 2.5])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1)], ids=str)
def test_thin_images_keep_their_colour(shape: tuple[int, int], scale: float) -> None:
    view = WorkingView(ArraySlide(np.full(shape, 77, np.uint8), 0.5), 0.5 * scale)
    assert min(view.hw) >= 1
    assert (view.read(0, 0, 8, 8) == 77).all()


def test_values_are_mapped_before_resampling() -> None:
    image = np.zeros((4, 4), np.uint16)
    image[:, ::2] = 60_000
    view = WorkingView(ArraySlide(image, 0.5), 1.0, (0, 100))
    assert view.read(0, 1, 1, 1)[0, 0, 0] == pytest.approx(128, abs=33)


def test_strong_reduction_reads_in_blocks_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view = WorkingView(ArraySlide(scene(200, 300), 0.5), 2.3)
    whole = view.read(0, 0, *view.hw)
    monkeypatch.setattr(working, "SOURCE_PX", 2000)
    assert np.array_equal(view.read(0, 0, *view.hw), whole)


def test_window_without_pixels_is_refused() -> None:
    with pytest.raises(SlideError, match="h=0"):
        WorkingView(ArraySlide(scene()), None).read(0, 0, 0, 5)
