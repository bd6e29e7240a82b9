from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg.errors import RingError
from cellseg.live.frame import FrameMeta
from cellseg.live.ring import RingReader, RingWriter, layout

SHM = Path("/dev/shm")
pytestmark = pytest.mark.skipif(not SHM.is_dir(), reason="no POSIX shared memory at /dev/shm")
HW = (6, 8)


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"cellseg-test-{os.getpid()}-{time.monotonic_ns()}"
    yield chosen
    (SHM / chosen).unlink(missing_ok=True)


@pytest.fixture
def writer(name: str) -> Iterator[RingWriter]:
    with RingWriter(name, slots=3, pixel_bytes=2 * 3 * HW[0] * HW[1]) as made:
        yield made


def image(value: int) -> np.ndarray:
    return np.full((*HW, 3), value, np.uint8)


def poke(name: str, offset: int, form: str, value: int) -> None:
    with (SHM / name).open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(form, value))


def test_a_frame_comes_out_as_it_went_in(writer: RingWriter, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*HW, 3)).astype(np.uint8)
    meta = FrameMeta(42, 123_456, (1.5, -2.5, 3.0), "DAPI")
    writer.publish(pixels, meta, mpp=0.25, camera_time_ns=77)
    frame = RingReader(name).newest()
    assert frame is not None
    assert np.array_equal(frame.array, pixels)
    assert (frame.meta, frame.mpp, frame.camera_time_ns) == (meta, 0.25, 77)
    assert frame.is_intact()


def test_what_the_camera_does_not_know_is_none(writer: RingWriter, name: str) -> None:
    writer.publish(np.zeros(HW, np.uint16))
    frame = RingReader(name).newest()
    assert frame is not None
    assert frame.array.shape == HW
    assert frame.array.dtype == np.uint16
    assert (frame.meta.stage_xyz_um, frame.meta.channel, frame.mpp) == (None, None, None)
    assert frame.camera_time_ns is None


def test_a_frame_is_a_view_that_nobody_can_write_to(writer: RingWriter, name: str) -> None:
    writer.publish(image(7))
    frame = RingReader(name).newest()
    assert frame is not None
    assert not frame.array.flags.owndata
    assert not frame.array.flags.writeable


def test_the_newest_frame_is_read_and_older_ones_until_overwritten(
    writer: RingWriter, name: str
) -> None:
    for value in range(5):
        writer.publish(image(value))
    reader = RingReader(name)
    kept = {n: frame.array[0, 0, 0] for n in range(6) if (frame := reader.frame(n)) is not None}
    assert kept == {2: 2, 3: 3, 4: 4}
    assert reader.published == 5


def test_after_close_nothing_is_written_or_read_in_silence(writer: RingWriter, name: str) -> None:
    writer.publish(image(1))
    reader = RingReader(name)
    held = reader.newest()
    reader.close()
    reader.close()
    with pytest.raises(RingError, match="closed reader"):
        reader.newest()
    assert held is not None
    assert held.array.max() == 1
    writer.close()
    with pytest.raises(RingError, match="closed ring"):
        writer.publish(image(2))


def test_a_long_channel_name_ends_with_a_whole_character(writer: RingWriter, name: str) -> None:
    writer.publish(image(1), FrameMeta.now(0, channel="é" * 40))
    frame = RingReader(name).newest()
    assert frame is not None
    assert frame.meta.channel == "é" * 31


def test_an_empty_ring_has_no_newest_frame(writer: RingWriter, name: str) -> None:
    assert RingReader(name).newest() is None


def test_a_frame_that_is_overwritten_while_it_is_read_says_so(
    writer: RingWriter, name: str
) -> None:
    writer.publish(image(1))
    frame = RingReader(name).newest()
    assert frame is not None
    for value in range(2, 5):
        assert frame.is_intact() == (value < 5)
        writer.publish(image(value))
    assert frame.array[0, 0, 0] == 4  # the view shows the newer frame
    assert not frame.is_intact()


def test_a_frame_torn_in_the_middle_is_detected(writer: RingWriter, name: str) -> None:
    writer.publish(image(1))
    frame = RingReader(name).newest()
    assert frame is not None
    for value in (2, 3):
        writer.publish(image(value))
    with writer.slot((*HW, 3), np.uint8) as pixels:  # the first frame's slot again
        pixels[: HW[0] // 2] = 9
        assert {9, 1} == set(np.unique(frame.array))  # half old, half new
        assert not frame.is_intact()
        assert RingReader(name).frame(3) is None
    assert RingReader(name).frame(3) is not None


def test_a_frame_that_its_writer_gives_up_is_never_seen(writer: RingWriter, name: str) -> None:
    with pytest.raises(ZeroDivisionError), writer.slot(HW, np.uint8):
        _ = 1 / 0
    assert RingReader(name).newest() is None
    writer.publish(image(3))
    assert RingReader(name).published == 1


def test_rows_with_gaps_are_read_by_their_strides(writer: RingWriter, name: str) -> None:
    writer.publish(image(0))
    start = layout.HEADER_BYTES
    poke(name, start + 44, "<I", HW[1] - 2)  # width: two pixels of padding a row
    for index, value in enumerate(range(HW[0])):
        poke(name, start + layout.HEADER_BYTES + index * HW[1] * 3, "<B", value)
    frame = RingReader(name).frame(0)
    assert frame is not None
    assert frame.array.shape == (HW[0], HW[1] - 2, 3)
    assert frame.array[:, 0, 0].tolist() == list(range(HW[0]))


@pytest.mark.parametrize(
    ("offset", "form", "value", "message"),
    [
        (0, "<Q", 0x1234, "magic=0x0000000000001234"),
        (8, "<I", 2, "abi=2"),
        (12, "<I", 64, "headers=\\(64, 256\\)"),
        (20, "<I", 1, "slots=1"),
        (20, "<I", 1000, "slots of 768 bytes takes 768256 bytes"),
        (24, "<Q", 300, "slot_bytes=300"),
        (32, "<Q", 10**9, "pixel_bytes=1000000000"),
        (40, "<Q", 10, "total_bytes=10"),
    ],
)
def test_a_header_that_is_not_ours_is_refused(
    writer: RingWriter, name: str, offset: int, form: str, value: int, message: str
) -> None:
    poke(name, offset, form, value)
    with pytest.raises(RingError, match=message) as caught:
        RingReader(name)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (32, "<I", 9),  # dtype
        (36, "<I", 2),  # channels
        (40, "<I", 0),  # height
        (44, "<I", 1_000_000),  # width
        (48, "<q", -24),  # stride_y
        (48, "<q", 2**62),
    ],
)
def test_a_frame_that_leaves_its_slot_is_refused(
    writer: RingWriter, name: str, offset: int, form: str, value: int
) -> None:
    writer.publish(image(1))
    poke(name, layout.HEADER_BYTES + offset, form, value)
    with pytest.raises(RingError, match="A frame of a ring has"):
        RingReader(name).newest()


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    strides=st.tuples(*[st.integers(0, 40)] * 3),
    itemsize=st.sampled_from([1, 2]),
)
def test_the_reach_of_an_image_is_where_numpy_reads_last(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int
) -> None:
    ends = [
        sum(i * s for i, s in zip(index, strides, strict=True)) + itemsize
        for index in np.ndindex(shape)
    ]
    assert layout.pixel_reach(shape, strides, itemsize) == max(ends)


def test_a_missing_ring_is_refused(name: str) -> None:
    with pytest.raises(RingError, match="no ring") as caught:
        RingReader(name)
    assert "Start the camera program" in str(caught.value.hint)


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_memory_too_short_for_a_ring_is_refused(name: str, content: bytes) -> None:
    (SHM / name).write_bytes(content)
    with pytest.raises(RingError, match=f"of {len(content)} bytes"):
        RingReader(name)


@pytest.mark.parametrize("wrong", ["", "a/b", "..", "x" * 300, "/a/b"])
def test_a_name_that_is_a_path_is_refused(wrong: str) -> None:
    with pytest.raises(RingError, match="no slash"):
        RingReader(wrong)


def test_a_slash_in_front_as_shm_open_has_it_is_allowed(writer: RingWriter, name: str) -> None:
    assert RingReader(f"/{name}").session == RingReader(name).session


def test_a_writer_that_stops_beating_is_dead_and_one_that_closes_is_closed(
    writer: RingWriter, name: str
) -> None:
    reader = RingReader(name)
    assert reader.writer == "alive"
    poke(name, 72, "<Q", time.monotonic_ns() - 3_000_000_000)
    assert reader.writer == "dead"
    writer.heartbeat()
    assert reader.writer == "alive"
    writer.close()
    assert reader.writer == "closed"


def test_a_living_writers_name_is_refused_and_a_dead_ones_is_taken(
    writer: RingWriter, name: str
) -> None:
    with pytest.raises(RingError, match=f"held by process {os.getpid()}"):
        RingWriter(name, 2, 10)
    reader = RingReader(name)
    poke(name, 72, "<Q", 1)
    with RingWriter(name, 2, 10):
        assert reader.is_replaced()
        assert RingReader(name).slots == 2


def test_another_programs_memory_is_not_taken(name: str) -> None:
    (SHM / name).write_bytes(b"precious" * 100)
    with pytest.raises(RingError, match="no other program's memory"):
        RingWriter(name, 2, 10)
    assert (SHM / name).read_bytes() == b"precious" * 100


def test_closing_takes_only_ones_own_ring_away(writer: RingWriter, name: str) -> None:
    poke(name, 72, "<Q", 1)
    with RingWriter(name, 2, 10) as other:
        writer.close()
        assert RingReader(name).session == int(other._header["session"])
    assert not (SHM / name).exists()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros(HW, np.float32), "dtype=float32"),
        (np.zeros((2, 2, 2, 2), np.uint8), "shape=\\(2, 2, 2, 2\\)"),
        (np.zeros((4, 4, 2), np.uint8), "shape=\\(4, 4, 2\\)"),
        (np.zeros((100, 100), np.uint8), "10000 bytes"),
    ],
)
def test_what_is_no_frame_or_too_large_is_not_written(
    writer: RingWriter, name: str, pixels: np.ndarray, message: str
) -> None:
    with pytest.raises(RingError, match=message):
        writer.publish(pixels)
    assert RingReader(name).published == 0


def test_frames_written_and_read_at_once_are_whole_or_refused(name: str) -> None:
    """A frame of one value each: a mixture that passes for whole would show."""
    from threading import Thread

    side, frames = 200, 400
    with RingWriter(name, slots=2, pixel_bytes=side * side) as ring:

        def write() -> None:
            for number in range(frames):
                ring.publish(np.full((side, side), number % 251, np.uint8))

        reader, whole = RingReader(name), 0
        thread = Thread(target=write)
        thread.start()
        while thread.is_alive() or whole == 0:
            frame = reader.newest()
            if frame is None:
                continue
            copy = frame.array.copy()
            if frame.is_intact():
                whole += 1
                assert (copy == frame.number % 251).all()
        thread.join()
    assert whole
