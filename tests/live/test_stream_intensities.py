"""What is seen of a stream: its range, and whether a stain is painted in one colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellseg.live.stream_intensities import StreamIntensities
from cellseg.runtime.view.normalize import Intensities, Normalize, measure_image
from tests.fakes import nuclei_picture

WANTED = Normalize("slide-percentile", 2, 98)
RNG = np.random.default_rng(1)


def percentiles(frame: Any) -> tuple[Any, ...]:
    return tuple(np.percentile(frame, (2, 98), method="inverted_cdf"))


def noise(low: int, high: int, dtype: Any = np.uint8) -> Any:
    return RNG.integers(low, high, (40, 50, 3)).astype(dtype)


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_frame_alone_has_its_own_percentiles(dtype: Any, most: int) -> None:
    stream = StreamIntensities(WANTED, np.dtype(dtype), memory=1)
    for high in (most, most // 3):
        frame = noise(0, high, dtype)
        assert stream.add(frame).value_range == percentiles(frame)


def test_an_empty_field_is_not_stretched() -> None:
    stream = StreamIntensities(WANTED, np.dtype(np.uint8), memory=256)
    full = noise(20, 220)
    stream.add(full)
    assert stream.add(noise(200, 215)).value_range[0] < 40


def test_a_stream_forgets_another_scene() -> None:
    stream = StreamIntensities(WANTED, np.dtype(np.uint8), memory=4)
    stream.add(noise(200, 250))
    for _ in range(40):
        found = stream.add(noise(0, 50)).value_range
    assert found[1] <= 50


def test_without_normalization_the_range_is_that_of_the_dtype() -> None:
    stream = StreamIntensities(Normalize(), np.dtype(np.uint16), memory=8)
    assert stream.add(noise(0, 9, np.uint16)) == Intensities((0.0, 65535.0))


def test_a_large_frame_has_the_percentiles_of_some_of_its_rows() -> None:
    frame = RNG.normal(120, 30, (1024, 512, 3)).clip(0, 255).astype(np.uint8)
    found = StreamIntensities(WANTED, np.dtype(np.uint8), memory=1).add(frame).value_range
    assert np.abs(np.subtract(found, percentiles(frame))).max() <= 1
    assert found == percentiles(frame[::4])


BLUE, GREEN, CYAN, GREY = (0, 0, 1), (0.1, 1, 0.1), (0, 0.9, 1), (1, 1, 1)


def painted(paint: Any, seed: int = 0, dtype: Any = np.uint8) -> Any:
    """Return a field of nuclei in one colour."""
    field = nuclei_picture(60, 80, seed).astype(np.float64) * (np.iinfo(dtype).max // 255)
    return np.rint(field * np.array(paint)).astype(dtype)


def two_stains(seed: int = 0) -> Any:
    return painted(BLUE, seed) + painted((0, 1, 0), seed + 1000)


def channels(stream: StreamIntensities, frames: Any) -> list[int | None]:
    return [stream.add(frame).channel for frame in frames]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("paint", [BLUE, GREEN, CYAN, GREY, (1, 0, 0), (0.6, 0.5, 1)], ids=str)
def test_the_first_frame_is_seen_as_the_image_is(paint: Any, dtype: Any) -> None:
    frame = painted(paint, dtype=dtype)
    stream = StreamIntensities(WANTED, np.dtype(dtype), memory=256)
    assert stream.add(frame) == measure_image(frame, WANTED)


@pytest.mark.parametrize("paint", [BLUE, CYAN], ids=str)
def test_fields_empty_or_odd_do_not_turn_a_painted_stream_to_colour(paint: Any) -> None:
    stream = StreamIntensities(WANTED, np.dtype(np.uint8), memory=256)
    frames = [painted(paint, n) for n in range(60)]
    frames[10:40] = [noise(0, 4) // 2 + np.uint8(1)] * 30  # no cell, dim noise in all channels
    frames[50] = two_stains()
    assert set(channels(stream, frames)) == {2}


def test_a_verdict_changes_once_and_only_when_it_has_lasted() -> None:
    stream = StreamIntensities(WANTED, np.dtype(np.uint8), memory=64)
    channels(stream, [painted(BLUE, n) for n in range(20)])
    seen = channels(stream, [two_stains(n) for n in range(40)])
    turned = seen.index(None)
    assert turned >= 7
    assert set(seen[:turned]) == {2}
    assert set(seen[turned:]) == {None}


def test_another_colour_is_another_scene_with_a_range_of_its_own() -> None:
    stream = StreamIntensities(WANTED, np.dtype(np.uint8), memory=64)
    channels(stream, [painted(BLUE, n) for n in range(100)])
    dim = painted((0, 0.5, 0))
    seen = [stream.add(dim) for _ in range(16)]
    turned = [found.channel for found in seen].index(1)
    assert 7 <= turned <= 10
    assert [found.channel for found in seen] == [2] * turned + [1] * (16 - turned)
    assert seen[-1] == measure_image(dim, WANTED)


def test_black_frames_before_the_first_field_settle_nothing() -> None:
    stream = StreamIntensities(WANTED, np.dtype(np.uint8), memory=64)
    channels(stream, [painted(BLUE) * 0] * 100)
    assert stream.add(painted(BLUE)).channel == 2


def test_each_frame_alone_is_seen_for_itself() -> None:
    stream = StreamIntensities(WANTED, np.dtype(np.uint8), memory=1)
    frames = [painted(BLUE), painted(GREY), painted(GREEN), two_stains()] * 3
    assert channels(stream, frames) == [2, None, 1, None] * 3


def test_grey_frames_among_painted_ones_count_in_all_channels() -> None:
    stream = StreamIntensities(WANTED, np.dtype(np.uint8), memory=4)
    grey = painted(GREY)[..., 0]
    assert stream.add(grey) == Intensities(percentiles(grey))
    found = channels(stream, [painted(CYAN), *[grey] * 20])
    assert found[-1] is None


def test_a_range_that_is_given_is_kept_and_the_stain_is_found() -> None:
    stream = StreamIntensities(WANTED, np.dtype(np.uint8), 256, (3.0, 90.0))
    assert stream.add(painted(BLUE)) == Intensities((3.0, 90.0), 2)
    raw = StreamIntensities(Normalize(), np.dtype(np.uint8), 256, (3.0, 90.0))
    assert raw.add(painted(BLUE)) == Intensities((3.0, 90.0))
