"""A stain that is painted in one colour is seen as a grey one is; all else as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.view.normalize import Normalize, measure_image, measure_slide
from cellseg.runtime.view.working import WorkingView
from tests.slides import grey, scene

WANTED = Normalize("slide-percentile", 1, 99)


@pytest.mark.parametrize(
    ("paint", "channel"),
    [((1, 0, 0), 0), ((0.1, 1, 0.1), 1), ((0, 0.4, 1), 2), ((0, 1, 0.9), 1), ((1, 0, 0.8), 0)],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_stain_painted_in_one_colour_is_seen_as_in_grey(
    paint: tuple[float, ...], channel: int, dtype: Any
) -> None:
    image = grey().astype(dtype)
    painted = np.rint(image[..., None] * np.array(paint)).astype(dtype)
    seen = measure_image(painted, WANTED)
    assert seen.channel == channel
    slide = ArraySlide(painted)
    assert measure_slide(slide, WANTED) == seen
    in_grey = np.stack([image] * 3, axis=-1)
    assert measure_image(in_grey, WANTED).channel is None
    expected = measure_image(in_grey, WANTED).seen(in_grey)
    assert np.array_equal(seen.seen(painted), expected)
    view = WorkingView(slide, None).in_range(seen)
    assert np.array_equal(view.read(0, 0, *image.shape), expected)


def test_two_stains_and_all_else_are_seen_as_they_are() -> None:
    image = grey()
    other = np.random.default_rng(1).integers(0, 256, image.shape, np.uint8)
    two = np.stack([image, other, image * 0], axis=-1)
    flat = np.stack([image, image * 0 + 200, image * 0], axis=-1)
    for picture in (two, flat, two * 0, scene(), np.stack([image, image, image // 2], axis=-1)):
        assert measure_image(picture, WANTED).channel is None
