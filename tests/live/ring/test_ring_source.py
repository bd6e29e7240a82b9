from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from cellseg.errors import RingError
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.ring import RingReader, RingWriter
from cellseg.live.sources.ring import RingSource

SHM = Path("/dev/shm")
pytestmark = pytest.mark.skipif(not SHM.is_dir(), reason="no POSIX shared memory at /dev/shm")
SIDE = 8
BYTES = SIDE * SIDE


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"cellseg-source-{os.getpid()}-{time.monotonic_ns()}"
    yield chosen
    (SHM / chosen).unlink(missing_ok=True)


def image(value: int) -> np.ndarray:
    return np.full((SIDE, SIDE), value, np.uint8)


def values(frames: list[Frame]) -> list[int]:
    return [int(frame.array[0, 0]) for frame in frames]


def test_frames_come_in_order_until_the_camera_program_is_done(name: str) -> None:
    with RingWriter(name, 8, BYTES) as ring:
        source = RingSource(name)
        for value in range(5):
            ring.publish(image(value), FrameMeta(100 + value, 7))
    frames = list(source.frames(Event()))
    assert values(frames) == [0, 1, 2, 3, 4]
    assert [frame.meta.frame_id for frame in frames] == [100, 101, 102, 103, 104]
    assert (source.missed, source.torn) == (0, 0)


def test_a_size_of_pixel_that_comes_later_is_told(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for given, told in ((None, 1), (0.5, 0)):
        caplog.clear()
        with RingWriter(name, 8, BYTES) as ring:
            source = RingSource(name, mpp=given)
            for value in range(3):
                ring.publish(image(value), mpp=0.25)
        assert len(list(source.frames(Event()))) == 3
        assert source.mpp == given
        assert caplog.text.count("frames state 0.25 µm a pixel") == told
        source.close()


def test_a_reader_that_comes_late_begins_with_the_newest_frame(name: str) -> None:
    with RingWriter(name, 8, BYTES) as ring:
        for value in range(5):
            ring.publish(image(value), mpp=0.25)
        source = RingSource(name)
    assert source.mpp == 0.25
    assert source.frame_kind == ((SIDE, SIDE), np.uint8)
    assert values(list(source.frames(Event()))) == [4]


def test_a_reader_that_was_overtaken_goes_on_with_the_newest_and_counts(name: str) -> None:
    with RingWriter(name, 3, BYTES) as ring:
        ring.publish(image(0))
        source = RingSource(name)
        frames = source.frames(Event())
        assert values([next(frames)]) == [0]
        for value in range(1, 10):
            ring.publish(image(value))
    assert values(list(frames)) == [9]
    assert source.lost == {"missed": 8, "torn": 0, "refused": 0}


def test_what_came_before_the_first_frame_was_asked_for_is_no_loss(name: str) -> None:
    with RingWriter(name, 3, BYTES) as ring:
        ring.publish(image(0))
        source = RingSource(name)
        for value in range(1, 10):
            ring.publish(image(value))
    assert values(list(source.frames(Event()))) == [9]
    assert source.lost == {"missed": 0, "torn": 0, "refused": 0}


def test_a_frame_that_is_overwritten_while_it_is_copied_is_not_handed_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = RingWriter(name, 3, BYTES)
    ring.publish(image(0))
    source = RingSource(name)
    take = source._pool.take

    def slowly(*wanted: object) -> np.ndarray:
        for value in range(1, 4):  # the camera comes round once while this reader looks away
            ring.publish(image(value))
        ring.close()
        monkeypatch.setattr(source._pool, "take", take)
        return take(*wanted)

    monkeypatch.setattr(source._pool, "take", slowly)
    assert values(list(source.frames(Event()))) == [3]
    assert (source.torn, source.missed) == (1, 2)


def test_pixels_that_are_held_are_not_touched_again(name: str) -> None:
    with RingWriter(name, 2, BYTES) as ring:
        source = RingSource(name)
        frames, kept = source.frames(Event()), []
        for value in range(6):
            ring.publish(image(value))
            kept.append(next(frames))
        frames.close()
    assert values(kept) == [0, 1, 2, 3, 4, 5]


def test_stopping_ends_the_waiting(name: str) -> None:
    with RingWriter(name, 2, BYTES):
        stop = Event()
        thread = Thread(target=lambda: list(RingSource(name).frames(stop)))
        thread.start()
        stop.set()
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_a_camera_program_that_died_is_waited_for_and_its_successor_read(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    dead = RingWriter(name, 4, BYTES)
    dead.publish(image(1))
    source, seen = RingSource(name, dead_after_s=0.05), []
    thread = Thread(target=lambda: seen.extend(source.frames(Event())))
    with caplog.at_level(logging.WARNING):
        thread.start()
        while "no life" not in caplog.text:
            time.sleep(0.01)
        dead._header["heartbeat_ns"] = 1  # as if it had died long ago
        with RingWriter(name, 4, BYTES) as successor:
            while "is back" not in caplog.text:
                time.sleep(0.01)
                successor.heartbeat()
            successor.publish(image(2))
        thread.join(timeout=10)
    assert values(seen) == [1, 2]


def test_a_frame_that_is_no_image_is_passed_over(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RingWriter(name, 4, BYTES) as ring:
        source = RingSource(name)
        ring.publish(image(1))
        with (SHM / name).open("r+b") as file:
            file.seek(256 + 32)
            file.write(b"\x09")
        ring.publish(image(2))
    assert values(list(source.frames(Event()))) == [2]
    assert source.refused == 1
    assert "dtype=9" in caplog.text


def test_frames_may_change_size_and_type_in_mid_stream(name: str) -> None:
    kinds = [((4, 4), np.uint8), ((2, 5, 3), np.uint8), ((3, 3), np.uint16), ((4, 4), np.uint8)]
    with RingWriter(name, 8, BYTES) as ring:
        source = RingSource(name)
        for shape, dtype in kinds:
            ring.publish(np.ones(shape, dtype))
    seen = [(frame.array.shape, frame.array.dtype) for frame in source.frames(Event())]
    assert seen == kinds


def test_there_must_be_a_ring_to_begin_with(name: str) -> None:
    with pytest.raises(RingError, match="no ring"):
        RingSource(name)


def test_a_closed_source_has_no_frames(name: str) -> None:
    with RingWriter(name, 2, BYTES) as ring:
        ring.publish(image(1))
        source = RingSource(name)
        source.close()
        source.close()
        assert list(source.frames(Event())) == []
        assert RingReader(name).published == 1
