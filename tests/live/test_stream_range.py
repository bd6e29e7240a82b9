"""The intensity range of a stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellseg.live.stream_range import StreamRange
from cellseg.runtime.manifest import NormalizeSpec
from cellseg.runtime.normalize import percentile_range

WANTED = NormalizeSpec(kind="slide-percentile", low=2, high=98)
RNG = np.random.default_rng(1)


def noise(low: int, high: int, dtype: Any = np.uint8) -> Any:
    return RNG.integers(low, high, (40, 50, 3)).astype(dtype)


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_frame_alone_has_its_own_percentiles(dtype: Any, most: int) -> None:
    stream = StreamRange(WANTED, np.dtype(dtype), memory=1)
    for high in (most, most // 3):
        frame = noise(0, high, dtype)
        assert stream.add(frame) == percentile_range(frame, 2, 98)


def test_an_empty_field_is_not_stretched() -> None:
    stream = StreamRange(WANTED, np.dtype(np.uint8), memory=256)
    full = noise(20, 220)
    stream.add(full)
    assert stream.add(noise(200, 215))[0] < 40


def test_a_stream_forgets_another_scene() -> None:
    stream = StreamRange(WANTED, np.dtype(np.uint8), memory=4)
    stream.add(noise(200, 250))
    for _ in range(40):
        found = stream.add(noise(0, 50))
    assert found[1] <= 50


def test_without_normalization_the_range_is_that_of_the_dtype() -> None:
    stream = StreamRange(NormalizeSpec(), np.dtype(np.uint16), memory=8)
    assert stream.add(noise(0, 9, np.uint16)) == (0.0, 65535.0)


def test_a_large_frame_has_the_percentiles_of_some_of_its_rows() -> None:
    frame = RNG.normal(120, 30, (1024, 512, 3)).clip(0, 255).astype(np.uint8)
    found = StreamRange(WANTED, np.dtype(np.uint8), memory=1).add(frame)
    assert np.abs(np.subtract(found, percentile_range(frame, 2, 98))).max() <= 1
    assert found == percentile_range(frame[::4], 2, 98)
