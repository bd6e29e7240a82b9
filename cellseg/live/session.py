"""A running microscope's frames through one model: bounded queue, one thread, counted drops.

::

    camera thread ── submit ──> queue (bounded) ──> the session's thread: segment, call listeners
         ^                        | drop-oldest, drop-newest or block
         '---- Future ------------'

``submit`` costs microseconds under both drop policies, whatever the engine does: it leaves a frame
in the `Intake` and goes. All listeners are called, and all futures are settled, from the session's
thread, one after the other, in the order in which things happened.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import time
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from itertools import count
from threading import Event, Lock, Thread, current_thread
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import CellsegError, SlideError
from cellseg.live.counters import Counters, DropReason, FrameDropped, Policy
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.frame_segmenter import FrameSegmenter
from cellseg.live.intake import Intake
from cellseg.live.listeners import Listeners
from cellseg.live.result import FrameLatency, FrameResult
from cellseg.live.snapshot import LiveSnapshot
from cellseg.live.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from cellseg.live.frame import Tensor
    from cellseg.live.intake import Slip
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.run.engine_shelf import OpenEngine

__all__ = ["LiveSession"]

_LOG = logging.getLogger(__name__)


class LiveSession:
    """Segments frames as they come.

    Parameters
    ----------
    model : str, Path or Bundle
        Name of a shipped bundle, path of a ``.cellseg`` file, or one that is open.
    policy : Policy or str
        What happens to a frame that comes while the queue is full: ``drop-oldest``,
        ``drop-newest`` or ``block``.
    queue_size : int
        Frames that may wait. 1 shows the newest frame; more smooths bursts and adds latency.
    mpp : float, optional
        Microns per pixel of the frames. None: they are at the model's.
    value_range : (float, float), optional
        Values that the model sees as 0 and 255; None: measured, as the bundle asks. Whether a
        stain is painted in one colour, and seen as grey, is found in any case.
    range_frames : int
        In how many of the newest frames of a channel: few follow a changing lamp, many keep an
        empty field from being stretched until noise looks like cells. 1: in each frame alone.
    open_engine : callable, optional
        Opens an engine for a bundle, options and a tile size; for engines of your own.
    **options
        Further fields of `cellseg.runtime.jobs.options.InferOptions`: ``engine``, ``precision``,
        ``threads``, ``threshold``, ``tile_px``.

    Raises
    ------
    CellsegError
        If there is no such model or an option is wrong.

    Notes
    -----
    *Memory.* A submitted array is not copied: leave it as it is until its future is done, and for
    as long as anybody looks at ``result.frame``: listeners, which are called after that, the page,
    a recording. Results are handed out without a copy too, see `FrameResult`. After the first
    frames of a shape nothing of a frame's size is allocated any more.

    *Counting.* ``sent = done + dropped`` once the session is closed, and
    ``sent = done + dropped + waiting`` at every moment before.

    Examples
    --------
    >>> with LiveSession("nuclei", mpp=0.5) as session:  # doctest: +SKIP
    ...     session.on_result(lambda result: print(result.counts))
    ...     for frame in camera:
    ...         session.submit(frame)
    """

    def __init__(
        self,
        model: str | Path | Bundle = "nuclei",
        *,
        policy: Policy | str = Policy.DROP_OLDEST,
        queue_size: int = 1,
        mpp: float | None = None,
        value_range: tuple[float, float] | None = None,
        range_frames: int = 256,
        open_engine: OpenEngine | None = None,
        **options: Any,
    ) -> None:
        self.policy = _policy(policy)
        for name, value in (("queue_size", queue_size), ("range_frames", range_frames)):
            if value < 1:
                raise CellsegError(f"{name} must be at least 1. Received: {name}={value}.")
        if value_range is not None:
            low, high = value_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise CellsegError(
                    "value_range is two numbers, the lower one first. "
                    f"Received: value_range={value_range}."
                )
        self.queue_size = queue_size
        self._segmenter = FrameSegmenter.load(
            model, open_engine, value_range, range_frames, mpp=mpp, **options
        )
        self._results = Listeners("results")
        self._drops = Listeners("drops")
        self._errors = Listeners("errors")
        self._intake = Intake(self.policy, queue_size)
        self._tally = Tally(self._segmenter.counted_names)
        self._numbers = count()
        self._segmenting, self._ended = Lock(), Event()
        self._has_warned = False
        self._started_ns = time.monotonic_ns()
        self._process = os.getpid()
        self._thread = Thread(target=self._work, name="cellseg-live", daemon=True)
        self._thread.start()
        atexit.register(self.close, drain=False)  # an engine must not outlive the interpreter

    # --- feeding ---

    def submit(
        self, frame: Frame | NDArray[Any] | Tensor, meta: FrameMeta | None = None
    ) -> Future[FrameResult]:
        """Hand a frame over.

        Parameters
        ----------
        frame : Frame, or array, or anything with ``__dlpack__``
            uint8 or uint16, shape (H, W) or (H, W, 1 | 3 | 4), on the CPU. Not copied.
        meta : FrameMeta, optional
            By default the frame is numbered in order and its exposure starts now.

        Returns
        -------
        Future of FrameResult
            Raises `FrameDropped` where the frame was dropped, with the reason.

        Raises
        ------
        CellsegError
            If the session is closed, or its thread is in the process that this one was forked from,
            or a listener would wait for itself: with ``block``, while the queue is full. Nothing
            else is raised for what a camera may send: a frame that is no image is counted, and told
            to ``on_error``.
        """
        if self._is_forked:
            raise CellsegError(
                "A session's thread stays in the process that made it: nobody would answer here. "
                f"Received: submit in process {os.getpid()}, forked from {self._process}.",
                hint="Make the session in the process that feeds it, or feed it through a ring.",
            )
        number = next(self._numbers)
        future: Future[FrameResult] = Future()
        self._intake.put(_as_frame(frame, meta, number), future)
        return future

    def warm_up(self, shape: tuple[int, ...], dtype: Any = np.uint8) -> None:
        """Open engine and buffers for frames of a shape before the first one comes.

        Parameters
        ----------
        shape : tuple of int
            (H, W) or (H, W, C).
        dtype : dtype
            uint8 or uint16.
        """
        with self._segmenting:
            self._segmenter.warm_up(np.zeros(shape, dtype))

    def on_result(self, callback: Callable[[FrameResult], Any]) -> Callable[[], None]:
        """Call back with every result; return what ends that."""
        return self._results.add(callback)

    def on_drop(self, callback: Callable[[FrameMeta, DropReason], Any]) -> Callable[[], None]:
        """Call back with every dropped frame's meta and reason; return what ends that."""
        return self._drops.add(callback)

    def on_error(self, callback: Callable[[FrameMeta, Exception], Any]) -> Callable[[], None]:
        """Call back with every frame that failed, and the error; return what ends that."""
        return self._errors.add(callback)

    # --- watching ---

    @property
    def counted_names(self) -> tuple[str, ...]:
        """Classes whose cells are counted."""
        return self._segmenter.counted_names

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """Colour of each class, background first."""
        return self._segmenter.palette

    def snapshot(self) -> LiveSnapshot:
        """Return the state of this moment."""
        tally, now_ns = self._tally.read(), time.monotonic_ns()
        sent = self._intake.sent  # after the tally: it never falls behind
        return LiveSnapshot(
            state=self._intake.state,
            elapsed_s=(now_ns - self._started_ns) / 1e9,
            fps=tally.per_second(now_ns, self._started_ns),
            latency=self._tally.latency(),
            counters=Counters(
                sent, tally.done, tally.dropped, sent - tally.settled, self._intake.clock_jumps
            ),
            counts=tally.counts,
            last=tally.last,
            model=self._segmenter.model_name,
            engine=self._segmenter.engine_name,
            palette=self.palette,
            class_names=self._segmenter.class_names,
            intensities=self._segmenter.seen,
        )

    # --- stopping ---

    def pause(self) -> None:
        """Drop what comes from now on, until `resume`."""
        self._intake.pause()

    def resume(self) -> None:
        """Take frames again after `pause`."""
        self._intake.resume()

    def wait_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until all frames are done or dropped, and all listeners have been called.

        Parameters
        ----------
        timeout_s : float, optional
            Longest time to wait; None: as long as it takes.

        Returns
        -------
        bool
            Whether that came in time. A listener, for which nothing goes on until it returns, does
            not wait: it is told whether a further frame waits.
        """
        if current_thread() is self._thread:
            return self._tally.settled == self._intake.sent
        return self._tally.wait_until_told(lambda: self._intake.sent, timeout_s)

    def close(self, drain: bool = True) -> None:
        """Take no more frames, and return when the session's thread and engine are gone.

        Parameters
        ----------
        drain : bool
            Segment what waits in the queue first; else it is dropped. The frame that is in the
            engine is finished in any case. May be called again. Does nothing in a fork.
        """
        if self._is_forked:  # a lock may have been held when it was forked, and is for ever
            return
        self._intake.close(drain)
        if current_thread() is not self._thread:
            self._ended.wait()  # a join that a Ctrl-C breaks off takes the thread for ended
            self._thread.join()
        atexit.unregister(self.close)

    def __enter__(self) -> LiveSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(drain=kind is None)

    @property
    def _is_forked(self) -> bool:
        return os.getpid() != self._process

    # --- the session's thread ---

    def _work(self) -> None:
        try:
            with closing(self._segmenter):
                self._settle_all()
        finally:
            self._ended.set()

    def _settle_all(self) -> None:
        while not (self._intake.state == "closed" and self._tally.settled == self._intake.sent):
            taken = self._intake.take()
            self._warn_of_clock()
            if taken is None:
                continue
            self._settle(*taken)
            self._tally.tell()

    def _settle(self, slip: Slip, what: Frame | DropReason) -> None:
        if isinstance(what, DropReason):
            self._drop(slip, what)
        elif slip.future.set_running_or_notify_cancel():
            self._run(slip, what)
        else:
            self._drop(slip, DropReason.CANCELLED)

    def _run(self, slip: Slip, frame: Frame) -> None:
        try:
            result = self._segment(frame, time.monotonic_ns())
        except Exception as error:
            is_bad = isinstance(error, SlideError)
            self._drop(slip, DropReason.BAD_FRAME if is_bad else DropReason.ERROR, error)
            return
        self._tally.add(result)
        _tell(slip.future.set_result, result)
        self._results(result)

    def _segment(self, frame: Frame, taken_ns: int) -> FrameResult:
        with self._segmenting:
            seen = self._segmenter(frame.array, frame.meta.channel)
        done_ns = time.monotonic_ns()
        exposed_ns = min(frame.meta.exposure_start_ns, taken_ns)
        latency = FrameLatency(
            wait_ms=(taken_ns - exposed_ns) / 1e6,
            engine_ms=seen.engine_ms,
            total_ms=(done_ns - exposed_ns) / 1e6,
        )
        return FrameResult(
            frame, seen.classes, seen.labels, seen.counts, seen.cells, seen.focus, latency
        )

    def _drop(self, slip: Slip, reason: DropReason, error: Exception | None = None) -> None:
        self._tally.drop(reason)
        _refuse(slip, reason, error)
        self._drops(slip.meta, reason)
        if error is not None:
            _LOG.warning("frame %s: %s", slip.meta.frame_id, error)
            self._errors(slip.meta, error)

    def _warn_of_clock(self) -> None:
        if self._intake.clock_jumps and not self._has_warned:
            self._has_warned = True
            _LOG.warning("a frame's exposure starts before its predecessor's, or in the future")


def _refuse(slip: Slip, reason: DropReason, cause: Exception | None) -> None:
    """Let the future of a frame without a result say so."""
    if reason is DropReason.CANCELLED:
        return
    if slip.future.running() or slip.future.set_running_or_notify_cancel():
        dropped = FrameDropped(slip.meta, reason)
        dropped.__cause__ = cause
        _tell(slip.future.set_exception, dropped)


def _tell(settle: Callable[[Any], None], outcome: Any) -> None:
    """Settle a future; what its own callbacks raise, such as SystemExit, stops nobody."""
    try:
        settle(outcome)
    except BaseException:
        _LOG.exception("a future could not be settled, or its callback failed")


def _as_frame(frame: Any, meta: FrameMeta | None, number: int) -> Frame:
    if isinstance(frame, Frame):
        return frame if meta is None else replace(frame, meta=meta)
    if not isinstance(frame, np.ndarray) and hasattr(frame, "__dlpack__"):
        frame = _array_of(frame)
    return Frame(frame, meta or FrameMeta.now(number))


def _array_of(tensor: Any) -> Any:
    """Return a tensor's array; or what it raises, which the session's thread tells of."""
    try:
        return np.from_dlpack(tensor)
    except Exception as error:  # each library has its own
        return error


def _policy(name: Policy | str) -> Policy:
    try:
        return Policy(name)
    except ValueError:
        known = ", ".join(policy.value for policy in Policy)
        raise CellsegError(f"A policy is one of {known}. Received: policy={name}.") from None
