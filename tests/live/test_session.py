"""Sessions: counting, policies, ownership, bad input, shutdown."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cellseg import CellsegError, LiveSession, Segmenter
from cellseg.live.counters import DropReason, FrameDropped
from cellseg.live.frame import FrameMeta
from cellseg.live.painter import paint_result
from cellseg.runtime.jobs.options import InferOptions
from tests.fakes import (
    CELL_HEAD,
    ConvEngine,
    FakeEngine,
    IdentityEngine,
    fake_bundle,
    nuclei_picture,
)


class GateEngine(IdentityEngine):
    """Works only while its gate is open."""

    gate = threading.Event()
    entered = threading.Semaphore(0)

    def foreground(self, tile: Any) -> Any:
        type(self).entered.release()
        assert type(self).gate.wait(10)
        return super().foreground(tile)


class MoodyEngine(IdentityEngine):
    """Fails on frames whose first pixel is 13."""

    def foreground(self, tile: Any) -> Any:
        if tile[0, 0, 0] == 13:
            raise RuntimeError("unlucky")
        return super().foreground(tile)


@pytest.fixture
def bundle(tmp_path: Path) -> Any:
    return fake_bundle(tmp_path / "m.cellseg", head=CELL_HEAD)


@pytest.fixture
def stretching(tmp_path: Path) -> Any:
    """Return a bundle that measures the range of what it sees."""
    normalize = {"kind": "slide-percentile", "low": 1, "high": 99}
    return fake_bundle(
        tmp_path / "s.cellseg", mpp=0.5, input={"normalize": normalize}, head=CELL_HEAD
    )


def named(channel: str) -> FrameMeta:
    return FrameMeta.now(0, channel=channel)


def make(bundle: Any, engine: type[FakeEngine] = IdentityEngine, **options: Any) -> LiveSession:
    return LiveSession(bundle, open_engine=lambda _, __, hw: engine(hw), **options)


@pytest.fixture
def gate() -> Any:
    GateEngine.gate, GateEngine.entered = threading.Event(), threading.Semaphore(0)
    yield GateEngine
    GateEngine.gate.set()


FRAME = nuclei_picture(64, 48)
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("shape", [(64, 48), (65, 47), (300, 331)], ids=str)
@pytest.mark.parametrize("mpp", [None, 0.25], ids="mpp={}".format)
def test_a_frame_gives_what_the_segmenter_gives(
    stretching: Any, shape: tuple[int, int], mpp: float | None
) -> None:
    frame = nuclei_picture(*shape)
    with Segmenter(stretching, InferOptions(tile_px=64), lambda _, __, hw: ConvEngine(hw)) as whole:
        expected = whole(frame, mpp)
    with make(stretching, ConvEngine, mpp=mpp, tile_px=64) as session:
        result = session.submit(frame).result(10)
    np.testing.assert_array_equal(result.classes, expected.classes)
    np.testing.assert_array_equal(result.labels, expected.labels)
    assert result.counts == {"nucleus": expected.cell_count}


@pytest.mark.parametrize(
    "frame",
    [
        FRAME[..., 0],
        FRAME[..., :1],
        FRAME.astype(np.uint16) * 257,
        FRAME[..., 0].astype(np.uint16) * 257,
        (FRAME.astype(np.uint16) * 257).astype(">u2"),
        (FRAME[..., 0].astype(np.uint16) * 257).astype(">u2"),
        (np.dstack([FRAME, FRAME[..., 0]]).astype(np.uint16) * 257).astype(">u2"),
        FRAME[:, ::-1],
        np.dstack([FRAME, np.full(FRAME.shape[:2], 255, np.uint8)]),
    ],
    ids=[
        "grey",
        "one-channel",
        "uint16",
        "grey16",
        "big-endian",
        "big-endian-grey",
        "big-endian-rgba",
        "mirrored",
        "rgba",
    ],
)
def test_frames_of_every_kind_are_taken_as_the_segmenter_takes_them(
    bundle: Any, frame: Any
) -> None:
    with Segmenter(bundle, InferOptions(), lambda _, __, hw: ConvEngine(hw)) as whole:
        expected = whole(frame)
    with make(bundle, ConvEngine) as session:
        result = session.submit(frame).result(10)
    np.testing.assert_array_equal(result.classes, expected.classes)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("mpp", [None, 0.25], ids="mpp={}".format)
@pytest.mark.parametrize("paint", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0.9, 1)], ids=str)
def test_a_stain_painted_in_one_colour_is_seen_as_in_grey(
    stretching: Any, paint: Any, mpp: float | None, dtype: Any
) -> None:
    frame = np.rint(FRAME * np.array(paint)).astype(dtype)
    clear = np.dstack([frame, np.full(FRAME.shape[:2], np.iinfo(dtype).max, dtype)])
    kept = frame.copy()
    with make(stretching, ConvEngine, mpp=mpp) as session:
        grey = session.submit(frame.max(axis=2), named("grey")).result(10)
        shown = session.submit(frame, named("painted")).result(10)
        with_alpha = session.submit(clear, named("painted")).result(10)
        state = session.snapshot().as_dict()
    for found in (shown, with_alpha):
        np.testing.assert_array_equal(found.labels, grey.labels)
        assert found.focus == grey.focus
    assert grey.counts["nucleus"] > 0
    colour = ("red", "green", "blue")[int(np.argmax(paint))]
    assert state["normalize"]["channel"] == colour
    np.testing.assert_array_equal(shown.frame.array, kept)
    if dtype == np.uint8:
        np.testing.assert_array_equal(paint_result(shown, session.palette, "frame"), kept)


def test_each_channel_of_a_microscope_has_its_own_colour(
    stretching: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    colours = []
    with make(stretching, policy="block", value_range=(0, 200)) as session:
        for number in range(6):
            name, channel = (("DAPI", 2), ("GFP", 1))[number % 2]
            frame = np.zeros_like(FRAME)
            frame[..., channel] = FRAME[..., channel]
            session.submit(frame, FrameMeta.now(number, channel=name)).result(10)
            seen = session.snapshot().as_dict()["normalize"]
            assert (seen["low"], seen["high"]) == (0, 200)
            colours.append(seen["channel"])
    assert colours == ["blue", "green"] * 3
    assert caplog.text.count("frames of DAPI: a stain painted in one colour: its blue") == 1
    assert caplog.text.count("is seen as grey") == 2


def test_a_frame_may_be_smaller_than_the_halo(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "m.cellseg", head=CELL_HEAD, halo_px=96)
    with make(bundle, ConvEngine) as session:
        result = session.submit(FRAME[:20, :30]).result(10)
    assert result.classes.shape == (20, 30)


@pytest.mark.parametrize("shape", [(2100, 40), (2500, 2300)], ids=str)
def test_frames_too_large_for_one_tile_give_what_the_segmenter_gives(
    bundle: Any, shape: tuple[int, int]
) -> None:
    frame = np.tile(nuclei_picture(250, 230), (10, 10, 1))[: shape[0], : shape[1]]
    with Segmenter(bundle, InferOptions(), lambda _, __, hw: IdentityEngine(hw)) as whole:
        expected = whole(frame)
    with make(bundle) as session:
        result = session.submit(frame).result(60)
    np.testing.assert_array_equal(result.classes, expected.classes)


def test_size_and_type_may_change_in_mid_stream(bundle: Any) -> None:
    frames = [FRAME, nuclei_picture(40, 90), FRAME[..., 0], FRAME.astype(np.uint16), FRAME]
    with make(bundle, policy="block") as session:
        results = [session.submit(frame).result(10) for frame in frames]
    assert [result.classes.shape for result in results] == [f.shape[:2] for f in frames]
    np.testing.assert_array_equal(results[0].classes, results[-1].classes)


def test_drop_oldest_keeps_the_newest_and_counts_the_others(bundle: Any, gate: Any) -> None:
    session = make(bundle, gate)
    futures = [session.submit(FRAME, FrameMeta.now(0))]
    gate.entered.acquire(timeout=10)
    futures += [session.submit(FRAME, FrameMeta.now(number)) for number in range(1, 5)]
    gate.gate.set()
    session.close()
    fates = [f.exception() for f in futures]
    assert [getattr(fate, "reason", None) for fate in fates] == [
        None,
        *[DropReason.OVERTAKEN] * 3,
        None,
    ]
    counters = session.snapshot().counters
    assert (counters.sent, counters.done, counters.dropped) == (5, 2, 3)


def test_drop_newest_keeps_what_was_accepted(bundle: Any, gate: Any) -> None:
    session = make(bundle, gate, policy="drop-newest")
    futures = [session.submit(FRAME)]
    gate.entered.acquire(timeout=10)
    futures += [session.submit(FRAME) for _ in range(3)]
    gate.gate.set()
    session.close()
    assert [f.exception() is None for f in futures] == [True, True, False, False]
    assert session.snapshot().counters.dropped_by_reason[DropReason.QUEUE_FULL] == 2


def test_block_loses_nothing(bundle: Any) -> None:
    with make(bundle, policy="block", queue_size=2) as session:
        for _ in range(20):
            session.submit(FRAME)
    counters = session.snapshot().counters
    assert (counters.sent, counters.done, counters.dropped) == (20, 20, 0)


def test_blocked_feeders_are_let_go_by_close(bundle: Any, gate: Any) -> None:
    session = make(bundle, gate, policy="block")
    session.submit(FRAME)
    gate.entered.acquire(timeout=10)
    session.submit(FRAME)
    late: list[Any] = []
    feeder = threading.Thread(target=lambda: late.append(session.submit(FRAME)))
    feeder.start()
    while session.snapshot().counters.sent < 3:
        time.sleep(0.001)
    threading.Timer(0.05, gate.gate.set).start()
    session.close(drain=False)
    feeder.join(10)
    assert late[0].exception().reason is DropReason.CLOSED
    counters = session.snapshot().counters
    assert (counters.sent, counters.done, counters.dropped) == (3, 1, 2)


def test_a_listener_never_waits_for_itself(bundle: Any) -> None:
    told: list[CellsegError] = []

    def send_two(session: LiveSession) -> None:
        session.submit(FRAME)
        with pytest.raises(CellsegError, match="queue_size=1") as caught:
            session.submit(FRAME)
        told.append(caught.value)

    session = make(bundle, policy="block")
    remove = session.on_result(lambda _: (remove(), send_two(session)))
    session.submit(FRAME).result(10)
    assert session.wait_idle(10)
    session.close()
    assert [error.hint is not None for error in told] == [True]
    counters = session.snapshot().counters
    assert (counters.sent, counters.done, counters.dropped) == (2, 2, 0)


def test_an_engine_error_counts_and_the_stream_goes_on(bundle: Any) -> None:
    unlucky = FRAME.copy()
    unlucky[0, 0] = 13
    errors: list[Any] = []
    with make(bundle, MoodyEngine, policy="block") as session:
        session.on_error(lambda meta, error: errors.append((meta.frame_id, str(error))))
        futures = [session.submit(frame) for frame in (FRAME, unlucky, FRAME)]
    with pytest.raises(FrameDropped, match="Frame 1 was dropped.*reason=error"):
        futures[1].result()
    counters = session.snapshot().counters
    assert (counters.done, counters.dropped, counters.errors) == (2, 1, 1)
    assert errors == [(1, "unlucky")]


class OnTheGpu:
    """A tensor that gives its pixels to nobody on the CPU."""

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("on the GPU")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((4, 4, 7), np.uint8), ""),
        (np.zeros((4, 4)), ""),
        (np.zeros((4, 4), bool), "uint8 or uint16"),
        (np.zeros((0, 4), np.uint8), ""),
        ("a frame", "str"),
        (OnTheGpu(), "on the GPU"),
    ],
    ids=["channels", "floats", "bool", "empty", "text", "gpu"],
)
def test_what_is_no_image_is_counted_and_told(bundle: Any, frame: Any, message: str) -> None:
    told: list[Any] = []
    with make(bundle, policy="block") as session:
        session.on_error(lambda meta, error: told.append(error))
        session.submit(frame)
        session.submit(FRAME)
    counters = session.snapshot().counters
    assert counters.dropped_by_reason[DropReason.BAD_FRAME] == 1
    assert counters.done == 1
    assert len(told) == 1
    assert message in str(told[0])


def test_every_drop_is_told_with_its_reason(bundle: Any, gate: Any) -> None:
    told: list[Any] = []
    session = make(bundle, gate)
    session.on_drop(lambda meta, reason: told.append((meta.frame_id, reason.value)))
    session.submit(FRAME)
    gate.entered.acquire(timeout=10)
    session.submit(FRAME)
    session.submit(FRAME)
    session.pause()
    session.submit(FRAME)
    session.resume()
    gate.gate.set()
    session.close()
    assert told == [(1, "overtaken"), (3, "paused")]


def test_a_cancelled_future_is_a_drop(bundle: Any, gate: Any) -> None:
    session = make(bundle, gate)
    session.submit(FRAME)
    gate.entered.acquire(timeout=10)
    assert session.submit(FRAME).cancel()
    gate.gate.set()
    session.close()
    counters = session.snapshot().counters
    assert (counters.done, counters.dropped_by_reason[DropReason.CANCELLED]) == (1, 1)


def test_times_that_go_backwards_are_counted_and_latency_stays_true(bundle: Any) -> None:
    now_ns = time.monotonic_ns()
    times_ns = [now_ns, now_ns - 10**9, now_ns + 10**12, now_ns]
    with make(bundle, policy="block") as session:
        futures = [session.submit(FRAME, FrameMeta(i, ns)) for i, ns in enumerate(times_ns)]
    assert session.snapshot().counters.clock_jumps == 2
    assert all(0 <= future.result().latency.total_ms < 60_000 for future in futures)


def test_the_newest_result_is_the_one_shown(bundle: Any) -> None:
    with make(bundle, policy="block") as session:
        for number in range(3):
            session.submit(FRAME, FrameMeta.now(number))
    snapshot = session.snapshot()
    assert snapshot.last is not None
    assert snapshot.last.meta.frame_id == 2
    assert snapshot.latency.samples == 3
    assert snapshot.state == "closed"
    assert snapshot.as_dict()["frame"]["id"] == 2


def test_a_blurred_frame_is_less_sharp(bundle: Any) -> None:
    blurred = cv2.GaussianBlur(FRAME, (0, 0), 2.0)
    with make(bundle, policy="block") as session:
        sharp, soft = (session.submit(frame).result(10).focus for frame in (FRAME, blurred))
    assert soft < sharp / 4


def test_a_listener_that_fails_stops_nobody(bundle: Any) -> None:
    seen: list[int] = []

    def fail(_: Any) -> None:
        raise ValueError("mine")

    with make(bundle, policy="block") as session:
        session.on_result(fail)
        remove = session.on_result(lambda result: seen.append(result.meta.frame_id))
        session.submit(FRAME).result(10)
        session.wait_idle(10)
        remove()
        session.submit(FRAME)
    assert seen == [0]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_callback_that_ends_the_program_does_not_end_the_sessions_thread(
    bundle: Any, error: type[BaseException], gate: Any
) -> None:
    def leave(*_: Any) -> None:
        raise error

    with make(bundle, GateEngine, policy="block", queue_size=3) as session:
        session.on_result(leave)
        session.on_drop(leave)
        seen = [session.submit(FRAME) for _ in range(2)]
        bad = session.submit(np.zeros((4, 4)))
        for future in (*seen, bad):
            future.add_done_callback(leave)
        gate.gate.set()
        assert session.wait_idle(10)
        assert session.submit(FRAME).result(10).meta.frame_id == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_fails_to_close_leaves_nobody_waiting(bundle: Any) -> None:
    class Stuck(IdentityEngine):
        def close(self) -> None:
            raise RuntimeError("the driver is gone")

    session = make(bundle, Stuck)
    session.submit(FRAME).result(10)
    closing = threading.Thread(target=session.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()


def test_a_session_is_idle_when_its_listeners_are(bundle: Any) -> None:
    seen: list[str] = []

    def note_late(what: str) -> None:
        time.sleep(0.05)
        seen.append(what)

    with make(bundle, policy="block") as session:
        session.on_result(lambda _: note_late("result"))
        session.on_drop(lambda *_: note_late("drop"))
        for frame, expected in ((FRAME, ["result"]), ("a frame", ["result", "drop"])):
            session.submit(frame)
            assert session.wait_idle(10)
            assert seen == expected


def test_a_listener_that_waits_for_idleness_does_not_wait_for_itself(
    bundle: Any, gate: Any
) -> None:
    answers: list[bool] = []
    with make(bundle, gate, policy="block") as session:
        session.on_result(lambda _: answers.append(session.wait_idle(2)))
        session.submit(FRAME)
        gate.entered.acquire(timeout=10)
        session.submit(FRAME)
        gate.gate.set()
        assert session.wait_idle(10)
    assert answers == [False, True]


def test_results_that_are_held_are_never_overwritten(bundle: Any) -> None:
    other = np.zeros_like(FRAME)
    with make(bundle, policy="block") as session:
        classes = session.submit(FRAME).result(10).classes  # the result itself is let go
        kept = classes.copy()
        for _ in range(5):
            session.submit(other).result(10)
    np.testing.assert_array_equal(classes, kept)


def test_dlpack_goes_in_and_out_without_a_copy(bundle: Any) -> None:
    class Capsule:
        def __dlpack__(self, **options: Any) -> Any:
            return FRAME.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return FRAME.__dlpack_device__()

    with make(bundle, policy="block") as session:
        result = session.submit(Capsule()).result(10)
        assert np.shares_memory(result.frame.array, FRAME)
        out = np.from_dlpack(result.classes)
        assert np.shares_memory(out, result.classes)
        kept = out.copy()
        del result
        session.submit(np.zeros_like(FRAME)).result(10)
    np.testing.assert_array_equal(out, kept)


@pytest.mark.parametrize("paint", [(1, 1, 1), (0, 0, 1)], ids=["grey", "blue"])
def test_nothing_of_a_frames_size_is_allocated_after_the_first_frames(
    stretching: Any, paint: Any
) -> None:
    frame = nuclei_picture(768, 768) * np.array(paint, np.uint8)
    grown = []
    with make(stretching, QuietEngine, policy="block", tile_px=256) as session:
        for _ in range(4):
            session.submit(frame).result(10)
        tracemalloc.start()
        try:
            for _ in range(8):
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                session.submit(frame).result(10)
                grown.append(tracemalloc.get_traced_memory()[1] - before)
        finally:
            tracemalloc.stop()
    assert max(grown) < frame[..., 0].nbytes // 2


class QuietEngine(IdentityEngine):
    """Allocates nothing itself."""

    def infer(self, tile: Any, out: Any = None) -> Any:
        assert out is not None
        np.divide(tile[..., 1], np.float32(255), out=out[..., 1], dtype=np.float32)
        np.subtract(np.float32(1), out[..., 1], out=out[..., 0])
        return out


def test_close_may_come_twice_and_ends_thread_and_engine(bundle: Any) -> None:
    engines: list[FakeEngine] = []

    def open_engine(_: Any, __: Any, hw: tuple[int, int]) -> FakeEngine:
        engines.append(IdentityEngine(hw))
        return engines[-1]

    session = LiveSession(bundle, open_engine=open_engine)
    session.submit(FRAME).result(10)
    session.close()
    session.close()
    assert engines[0].is_closed
    assert not any(thread.name == "cellseg-live" for thread in threading.enumerate())
    with pytest.raises(CellsegError, match="closed session"):
        session.submit(FRAME)


FORKED = """
import os, sys
import numpy as np
from cellseg import CellsegError, LiveSession
from tests.fakes import IdentityEngine, fake_bundle
from pathlib import Path

bundle = fake_bundle(Path(sys.argv[1]))
frame = np.zeros((64, 48, 3), np.uint8)
session = LiveSession(bundle, policy="block", open_engine=lambda _, __, hw: IdentityEngine(hw))
session.submit(frame).result(60)
if (child := os.fork()) == 0:
    try:
        for _ in range(3):
            session.submit(frame)
    except CellsegError as error:
        print(error, error.hint, flush=True)
    session.close()
    os._exit(0)
os.waitpid(child, 0)
assert session.submit(frame).result(60).counts == {}
session.close()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_is_told_that_nobody_would_answer(tmp_path: Path) -> None:
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FORKED, str(tmp_path / "m.cellseg")]
    answer = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env=here
    )
    told, last = answer.stdout.splitlines()
    assert "forked from" in told
    assert "Make the session in the process that feeds it" in told
    assert last == "done"


def test_close_from_a_callback_does_not_wait_for_itself(bundle: Any) -> None:
    session = make(bundle)
    session.on_result(lambda _: session.close())
    session.submit(FRAME).result(10)
    session.close()
    assert session.snapshot().state == "closed"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"policy": "drop-all"}, "policy=drop-all"),
        ({"queue_size": 0}, "queue_size=0"),
        ({"range_frames": 0}, "range_frames=0"),
        ({"engin": "auto"}, "engin"),
        ({"channel": "DAPI"}, "channel='DAPI'"),
        ({"roi": Path("a.geojson")}, "roi='a.geojson'"),
        ({"value_range": (9, 1)}, "value_range"),
        ({"value_range": (5, 5)}, "value_range"),
        ({"value_range": (float("nan"), 1)}, "value_range"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(bundle: Any, option: Any, message: str) -> None:
    with pytest.raises(CellsegError, match=message):
        make(bundle, **option)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"engine": "tensorflow"}, "engine='tensorflow'"),
        ({"engine": "onnxruntime", "precision": "int9"}, "precision='int9'"),
        ({"tile_px": 7}, "tile_px=7"),
    ],
    ids=str,
)
def test_what_each_frame_would_fail_by_is_refused_at_once(option: Any, message: str) -> None:
    with pytest.raises(CellsegError, match=message):
        LiveSession("nuclei", **option)


def test_cells_smaller_than_the_model_tells_apart_are_doubted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = {**CELL_HEAD, "instances": {**CELL_HEAD["instances"], "least_diameter_px": 99}}
    small = fake_bundle(tmp_path / "m.cellseg", head=head)
    with make(small, policy="block") as session:
        for _ in range(3):
            session.submit(nuclei_picture(240, 240))
    assert caplog.text.count("a frame: half of its cells") == 1
