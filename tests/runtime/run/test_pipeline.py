"""Threads and queues: the same result whatever their number, and one clear error."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.errors import EngineError, SlideError, StoreError
from cellseg.runtime.engines.trim import Output
from cellseg.runtime.run.channel import Channel, ChannelClosed
from cellseg.runtime.run.pipeline import Limits, run_tiles
from cellseg.runtime.run.stages import StageClock
from cellseg.runtime.tiles.plan import Tile, TilePlan, plan_tiles
from tests.fakes import CONV_REACH_PX, CONV_STRIDE_PX, ConvEngine, nuclei_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CanvasSteps:
    """Reads an image in memory and writes to another."""

    def __init__(self, image: NDArray[np.uint8], plan: TilePlan, engine: Any) -> None:
        (h, w), (rounded_h, rounded_w) = image.shape[:2], plan.rounded_hw
        self.padded = np.pad(image, ((0, rounded_h - h), (0, rounded_w - w), (0, 0)), mode="edge")
        self.plan, self.engine = plan, engine
        self.canvas = np.full((h, w), np.nan, np.float32)
        self.uncommitted = self.committed = 0
        self.fail: dict[str, tuple[int, Exception]] = {}

    def read(self, tile: Tile) -> NDArray[np.uint8]:
        self._maybe_fail("read", tile)
        (y, x), (h, w) = tile.read_yx, self.plan.tile_hw
        return np.ascontiguousarray(self.padded[y : y + h, x : x + w])

    def infer(self, tile: Tile, rgb: NDArray[np.uint8], out: NDArray[np.float32]) -> Output:
        return Output(self.engine.infer(rgb, out))

    def stitch(self, tile: Tile, output: Output) -> NDArray[np.float32]:
        self._maybe_fail("stitch", tile)
        return output.channels[tile.inner][..., 1].copy()

    def write(self, tile: Tile, result: NDArray[np.float32]) -> None:
        self._maybe_fail("write", tile)
        self.canvas[tile.outer] = result
        self.uncommitted += 1

    def commit(self) -> None:
        self.committed, self.uncommitted = self.committed + self.uncommitted, 0

    def _maybe_fail(self, stage: str, tile: Tile) -> None:
        index, error = self.fail.get(stage, (-1, None))
        if tile.index == index and error is not None:
            raise error


def steps_for(height: int, width: int, tile_px: int = 32, **engine: Any) -> CanvasSteps:
    plan = plan_tiles((height, width), tile_px, CONV_REACH_PX, CONV_STRIDE_PX)
    return CanvasSteps(nuclei_picture(height, width), plan, ConvEngine(plan.tile_hw, **engine))


def run(steps: CanvasSteps, workers: int = 2, concurrency: int = 1, batch: int = 2) -> None:
    limits = Limits(workers, concurrency, batch, concurrency + 1, (*steps.plan.tile_hw, 2))
    run_tiles(steps.plan, steps, limits, StageClock())


def whole(steps: CanvasSteps) -> NDArray[np.float32]:
    """Run the network once over the whole image."""
    engine = ConvEngine(steps.plan.rounded_hw)
    h, w = steps.plan.extent_hw
    return engine.infer(steps.padded)[:h, :w, 1]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([14, 16, 32, 40]))
def test_tiled_equals_whole_to_the_last_bit(height: int, width: int, tile_px: int) -> None:
    steps = steps_for(height, width, tile_px)
    run(steps)
    np.testing.assert_array_equal(steps.canvas, whole(steps))


@pytest.mark.parametrize(("workers", "concurrency", "batch"), [(1, 1, 1), (4, 3, 2), (2, 2, 64)])
def test_threads_and_queues_do_not_change_the_result(
    workers: int, concurrency: int, batch: int
) -> None:
    steps = steps_for(150, 170)
    run(steps, workers, concurrency, batch)
    np.testing.assert_array_equal(steps.canvas, whole(steps))
    assert steps.committed == len(steps.plan)


def test_a_halo_smaller_than_the_reach_is_seen() -> None:
    steps = steps_for(100, 100)
    plan = plan_tiles((100, 100), 32, CONV_REACH_PX - 3, CONV_STRIDE_PX)
    short = CanvasSteps(nuclei_picture(100, 100), plan, ConvEngine(plan.tile_hw))
    run(short)
    assert (short.canvas != whole(steps)).any()


@pytest.mark.parametrize(
    ("stage", "kind"), [("read", SlideError), ("stitch", EngineError), ("write", StoreError)]
)
def test_a_failure_surfaces_with_its_stage_and_tile(stage: str, kind: type[Exception]) -> None:
    steps = steps_for(150, 170)
    steps.fail[stage] = (9, ZeroDivisionError("it broke"))
    tile = str(steps.plan.tile(9))
    with pytest.raises(kind, match=f"{stage} stage failed") as caught:
        run(steps)
    assert tile in str(caught.value)
    assert "it broke" in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_package_that_does_not_load_in_a_stage_is_one_for_the_doctor() -> None:
    steps = steps_for(60, 60)
    steps.fail["stitch"] = (2, ImportError("Numba needs NumPy 2.2 or less. Got NumPy 2.3."))
    with pytest.raises(EngineError, match="Numba needs NumPy") as caught:
        run(steps)
    assert "cellseg-cli doctor" in str(caught.value.hint)


def test_an_error_of_ours_keeps_its_kind_and_hint() -> None:
    steps = steps_for(60, 60)
    steps.fail["read"] = (2, SlideError("The tile is corrupt.", hint="Copy it again."))
    with pytest.raises(SlideError, match=r"^The tile is corrupt\. \(at tile 2 ") as caught:
        run(steps)
    assert caught.value.hint == "Copy it again."


def test_what_was_done_before_a_failure_is_committed() -> None:
    steps = steps_for(150, 170)
    last = len(steps.plan) - 1
    steps.fail["read"] = (last, SlideError("The file ends here."))
    with pytest.raises(SlideError):
        run(steps, workers=1, batch=1)
    assert steps.uncommitted == 0
    assert 0 < steps.committed < len(steps.plan)


def test_all_threads_end_with_a_failure() -> None:
    before = threading.active_count()
    steps = steps_for(150, 170, delay_s=0.002)
    steps.fail["write"] = (0, StoreError("The disk is full."))
    with pytest.raises(StoreError):
        run(steps, workers=4, concurrency=2)
    assert threading.active_count() == before


def test_an_interrupt_in_the_calling_thread_stops_the_run_and_keeps_what_is_done() -> None:
    steps = steps_for(500, 500, delay_s=0.01)

    def interrupt() -> None:
        if steps.committed:
            raise KeyboardInterrupt

    limits = Limits(2, 1, 1, 2, (*steps.plan.tile_hw, 2))
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_tiles(steps.plan, steps, limits, StageClock(), interrupt)
    assert threading.active_count() == before
    assert steps.uncommitted == 0
    assert 0 < steps.committed < len(steps.plan)


def test_no_tiles_is_no_error() -> None:
    steps = steps_for(10, 10)
    run_tiles([], steps, Limits(2, 1, 1, 2, (32, 32, 2)), StageClock())
    assert steps.committed == 0


def test_readers_never_run_further_ahead_than_the_queues_allow() -> None:
    steps = steps_for(200, 200, delay_s=0.001)
    ahead, lock = [], threading.Lock()
    read, write, state = steps.read, steps.write, {"read": 0, "written": 0}

    def counted_read(tile: Tile) -> NDArray[np.uint8]:
        with lock:
            state["read"] += 1
            ahead.append(state["read"] - state["written"])
        return read(tile)

    def counted_write(tile: Tile, result: NDArray[np.float32]) -> None:
        write(tile, result)
        with lock:
            state["written"] += 1

    steps.read, steps.write = counted_read, counted_write  # type: ignore[method-assign]
    run(steps, workers=3, concurrency=1, batch=2)
    # 3 readers, 2 ready, 1 at the engine, 2 outputs + 1 stitched, 8 finished, 1 being written
    assert max(ahead) <= 3 + 2 + 1 + 3 + 8 + 1


def test_a_closed_channel_gives_what_it_holds_and_then_ends() -> None:
    channel = Channel[int](3, writers=2)
    channel.put(1)
    channel.close()
    channel.put(2)
    channel.close()
    assert [channel.get(), channel.get()] == [1, 2]
    with pytest.raises(ChannelClosed):
        channel.get()


def test_a_cancelled_channel_lets_a_waiting_writer_go() -> None:
    channel = Channel[int](1)
    channel.put(1)
    ended = threading.Event()

    def fill() -> None:
        with pytest.raises(ChannelClosed):
            channel.put(2)
        ended.set()

    threading.Thread(target=fill, daemon=True).start()
    time.sleep(0.01)
    channel.cancel()
    assert ended.wait(5)


def test_the_stage_with_the_busiest_threads_is_the_bottleneck() -> None:
    clock = StageClock(earlier_s={"write": 5.0})
    clock.threads = {"read": 4}
    clock._busy_s = {"read": 6.0, "infer": 3.0}
    assert clock.bottleneck(4.0) == ("infer", 0.75)
    assert clock.seconds() == {
        "read": 6.0,
        "infer": 3.0,
        "stitch": None,
        "cells": None,
        "write": 5.0,
    }
    assert StageClock().bottleneck(1.0) is None
