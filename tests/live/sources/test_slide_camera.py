"""A slide played as a camera."""

from __future__ import annotations

import time
from threading import Event
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg import CellsegError
from cellseg.live.sources.slide_camera import SlideCamera, SlideCameraOptions, serpentine
from cellseg.runtime.slides.slide import ArraySlide
from tests.fakes import nuclei_picture

PICTURE = nuclei_picture(300, 420)


def play(**options: Any) -> tuple[SlideCamera, list[Any]]:
    options = {"frame_hw": (100, 120)} | options
    camera = SlideCamera(ArraySlide(PICTURE, 0.5), SlideCameraOptions(**options))
    return camera, list(camera.frames(Event()))


@given(
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.tuples(st.integers(1, 99), st.integers(1, 99)),
    st.floats(0, 0.9),
)
def test_a_path_covers_the_slide(
    extent_hw: tuple[int, int], frame_hw: tuple[int, int], overlap: float
) -> None:
    frame_hw = (min(frame_hw[0], extent_hw[0]), min(frame_hw[1], extent_hw[1]))
    for axis in (0, 1):
        starts = sorted({place[axis] for place in serpentine(extent_hw, frame_hw, overlap)})
        assert starts[0] == 0
        assert starts[-1] + frame_hw[axis] == extent_hw[axis]
        steps = np.diff(starts)
        assert (steps <= max(1, frame_hw[axis] * (1 - overlap))).all()


def test_neighbours_of_a_path_are_neighbours_on_the_slide() -> None:
    path = np.array(serpentine((300, 420), (100, 120), 0.1))
    assert (np.abs(np.diff(path, axis=0)) <= (90, 108)).all()


def test_frames_show_the_slide_where_the_stage_is() -> None:
    camera, frames = play()
    assert [frame.meta.frame_id for frame in frames] == list(range(len(camera.path_yx)))
    for frame in frames:
        y, x = camera.truth_yx[frame.meta.frame_id]
        assert frame.meta.stage_xyz_um == (x * 0.5, y * 0.5, 0.0)
        np.testing.assert_array_equal(frame.array, PICTURE[y : y + 100, x : x + 120])


def test_jitter_moves_the_view_and_not_what_the_stage_says() -> None:
    camera, frames = play(jitter_px=8, seed=3)
    off = [
        np.subtract(camera.truth_yx[f.meta.frame_id], camera.path_yx[i])
        for i, f in enumerate(frames)
    ]
    assert 0 < np.abs(off).max() <= 8
    for frame, place in zip(frames, camera.path_yx, strict=True):
        assert frame.meta.stage_xyz_um[:2] == (place[1] * 0.5, place[0] * 0.5)


def test_the_same_seed_plays_the_same_scan() -> None:
    options = {"jitter_px": 5, "defocus_px": 2, "lost": 0.3, "seed": 7}
    (_, first), (_, second) = play(**options), play(**options)
    assert [f.meta.stage_xyz_um for f in first] == [f.meta.stage_xyz_um for f in second]
    assert all((a.array == b.array).all() for a, b in zip(first, second, strict=True))


def test_lost_frames_leave_gaps_in_the_numbers() -> None:
    camera, frames = play(lost=0.4)
    ids = [frame.meta.frame_id for frame in frames]
    assert len(ids) < len(camera.path_yx)
    assert ids == sorted(ids)


def test_more_frames_than_fields_begin_again() -> None:
    camera, frames = play(frames=30)
    assert len(frames) == 30 > len(camera.path_yx)
    np.testing.assert_array_equal(frames[0].array, frames[len(camera.path_yx)].array)


def test_a_rate_is_kept() -> None:
    started_s = time.monotonic()
    _, frames = play(frames=6, rate=100.0)
    assert time.monotonic() - started_s >= 0.05
    times = [frame.meta.exposure_start_ns for frame in frames]
    assert times == sorted(times)


def test_stop_ends_the_scan() -> None:
    stop = Event()
    camera = SlideCamera(ArraySlide(PICTURE), SlideCameraOptions((100, 120)))
    frames = camera.frames(stop)
    next(frames)
    stop.set()
    assert list(frames) == []


@pytest.mark.parametrize(
    "wrong", [{"overlap": 0.95}, {"rate": 0.0}, {"lost": 1.0}, {"frames": 0}, {"seed": -1}], ids=str
)
def test_faults_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(CellsegError, match=name):
        SlideCameraOptions(**wrong)
