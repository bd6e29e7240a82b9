"""Values are counted exactly, and percentiles are those of the sorted samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.view.value_counts import count_samples, range_from_counts
from tests.slides import scene

images = npst.arrays(
    st.sampled_from([np.uint8, np.uint16]),
    npst.array_shapes(min_dims=2, max_dims=3, max_side=9),
)
percentiles = st.tuples(st.floats(0, 99), st.floats(0.1, 100)).filter(
    lambda pair: pair[0] < pair[1]
)


@given(images, percentiles)
def test_percentiles_are_those_of_the_sorted_samples(
    image: NDArray[Any], pair: tuple[float, float]
) -> None:
    assert range_from_counts(np.bincount(image.ravel()), *pair) == tuple(
        np.percentile(image, pair, method="inverted_cdf")
    )


@given(images)
def test_whole_range_is_minimum_and_maximum(image: NDArray[Any]) -> None:
    assert range_from_counts(np.bincount(image.ravel()), 0, 100) == (image.min(), image.max())


def test_channels_are_counted_one_by_one() -> None:
    counts = count_samples(ArraySlide(scene()))
    expected = [np.bincount(scene()[..., channel].ravel(), minlength=256) for channel in range(3)]
    assert np.array_equal(counts, expected)
