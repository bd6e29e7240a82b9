"""A running microscope's frames through one model: bounded queue, one thread, counted drops.

::

    camera thread ── submit ──> queue (bounded) ──> the session's thread: segment, call listeners
         ^                        | drop-oldest, drop-newest or block
         '---- Future ------------'

``submit`` costs microseconds under both drop policies, whatever the engine does. All listeners are
called from the session's thread, one after the other, in the order in which things happened.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Condition, Lock, Thread, current_thread
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellseg.errors import CellsegError, SlideError
from cellseg.live.counters import Counters, DropReason, FrameDropped, Policy
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.frame_segmenter import FrameSegmenter
from cellseg.live.latency import LatencyRing
from cellseg.live.listeners import Listeners
from cellseg.live.result import FrameLatency, FrameResult
from cellseg.live.snapshot import LiveSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from cellseg.runtime.bundle import Bundle
    from cellseg.runtime.engines.shelf import OpenEngine

__all__ = ["LiveSession"]

_LOG = logging.getLogger(__name__)
_FPS_WINDOW_NS = 5_000_000_000
_FPS_RESULTS = 512


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A frame in the queue."""

    frame: Frame
    future: Future[FrameResult]


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
        Values that the model sees as 0 and 255; None: measured, as the bundle asks.
    range_frames : int
        In how many of the newest frames of a channel: few follow a changing lamp, many keep an
        empty field from being stretched until noise looks like cells. 1: in each frame alone.
    open_engine : callable, optional
        Opens an engine for a bundle, options and a tile size; for engines of your own.
    **options
        Further fields of `cellseg.runtime.options.InferOptions`: ``engine``, ``precision``,
        ``threads``, ``threshold``, ``tile_px``.

    Raises
    ------
    CellsegError
        If there is no such model or an option is wrong.

    Notes
    -----
    *Memory.* A submitted array is not copied: leave it as it is until its future is done. Results
    are handed out without a copy too, see `FrameResult`. After the first frames of a shape nothing
    of a frame's size is allocated any more.

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
        self.queue_size = queue_size
        self._segmenter = FrameSegmenter.load(
            model, open_engine, value_range, range_frames, mpp=mpp, **options
        )
        self._results = Listeners("results")
        self._drops = Listeners("drops")
        self._errors = Listeners("errors")
        self._changed = Condition()
        self._segmenting = Lock()
        self._queue: deque[_Waiting] = deque()
        self._untold: deque[tuple[FrameMeta, DropReason]] = deque()
        self._state: Literal["running", "paused", "closed"] = "running"
        self._sent = self._done = self._clock_jumps = 0
        self._dropped = dict.fromkeys(DropReason, 0)
        self._latest_exposure_ns = 0
        self._latency = LatencyRing()
        self._result_ns: deque[int] = deque(maxlen=_FPS_RESULTS)
        self._counts = dict.fromkeys(self._segmenter.counted_names, 0)
        self._last: FrameResult | None = None
        self._started_ns = time.monotonic_ns()
        self._thread = Thread(target=self._work, name="cellseg-live", daemon=True)
        self._thread.start()
        atexit.register(self.close, drain=False)  # an engine must not outlive the interpreter

    # --- feeding ---

    def submit(self, frame: Frame | NDArray[Any], meta: FrameMeta | None = None) -> Future[Any]:
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
            If the session is closed. Nothing else is raised for what a camera may send: a frame
            that is no image is counted, and told to ``on_error``.
        """
        future: Future[FrameResult] = Future()
        with self._changed:
            if self._state == "closed":
                raise CellsegError(
                    "A closed session takes no frames. Received: submit after close."
                )
            item = _Waiting(self._as_frame(frame, meta), future)
            self._sent += 1
            self._check_clock(item.frame.meta)
            dropped = self._enqueue(item)
            self._changed.notify_all()
        for old, reason in dropped:
            _refuse(old, reason)
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

    def snapshot(self) -> LiveSnapshot:
        """Return the state of this moment."""
        now_ns = time.monotonic_ns()
        with self._changed:
            return LiveSnapshot(
                state=self._state,
                elapsed_s=(now_ns - self._started_ns) / 1e9,
                fps=_rate(self._result_ns, now_ns, self._started_ns),
                latency=self._latency.stats(),
                counters=self._counters(),
                counts=dict(self._counts),
                last=self._last,
                model=self._segmenter.model_name,
                engine=self._segmenter.engine_name,
                palette=self._segmenter.palette,
                class_names=self._segmenter.class_names,
            )

    # --- stopping ---

    def pause(self) -> None:
        """Drop what comes from now on, until `resume`."""
        with self._changed:
            if self._state == "running":
                self._state = "paused"

    def resume(self) -> None:
        """Take frames again after `pause`."""
        with self._changed:
            if self._state == "paused":
                self._state = "running"

    def wait_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until no frame waits or is worked on; return whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting == 0, timeout_s)

    def close(self, drain: bool = True) -> None:
        """Take no more frames, and return when the session's thread and engine are gone.

        Parameters
        ----------
        drain : bool
            Segment what waits in the queue first; else it is dropped. The frame that is in the
            engine is finished in any case. May be called again.
        """
        with self._changed:
            self._state = "closed"
            dropped = [] if drain else [self._drop(item, DropReason.CLOSED) for item in self._queue]
            if not drain:
                self._queue.clear()
            self._changed.notify_all()
        for item, reason in dropped:
            _refuse(item, reason)
        if current_thread() is not self._thread:
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

    # --- under the lock ---

    @property
    def _waiting(self) -> int:
        return self._sent - self._done - sum(self._dropped.values())

    def _counters(self) -> Counters:
        return Counters(
            sent=self._sent,
            done=self._done,
            dropped_by_reason=dict(self._dropped),
            waiting=self._waiting,
            clock_jumps=self._clock_jumps,
        )

    def _as_frame(self, frame: Any, meta: FrameMeta | None) -> Frame:
        if isinstance(frame, Frame):
            return frame if meta is None else replace(frame, meta=meta)
        if not isinstance(frame, np.ndarray) and hasattr(frame, "__dlpack__"):
            frame = np.from_dlpack(frame)
        return Frame(frame, meta or FrameMeta.now(self._sent))

    def _check_clock(self, meta: FrameMeta) -> None:
        """Count a timestamp before its predecessor's, or in the future."""
        started_ns = meta.exposure_start_ns
        if self._latest_exposure_ns <= started_ns <= time.monotonic_ns():
            self._latest_exposure_ns = started_ns
            return
        self._clock_jumps += 1
        if self._clock_jumps == 1:
            _LOG.warning("frame %s: its time of exposure goes backwards", meta.frame_id)

    def _enqueue(self, item: _Waiting) -> list[tuple[_Waiting, DropReason]]:
        """Put a frame into the queue by the policy; return what had to go."""
        if (reason := self._refusal()) is not None:
            return [self._drop(item, reason)]
        if self.policy is Policy.BLOCK:
            self._changed.wait_for(
                lambda: len(self._queue) < self.queue_size or self._state != "running"
            )
            if (reason := self._refusal()) is not None:
                return [self._drop(item, reason)]
        dropped = []
        if len(self._queue) >= self.queue_size:
            if self.policy is Policy.DROP_NEWEST:
                return [self._drop(item, DropReason.QUEUE_FULL)]
            dropped.append(self._drop(self._queue.popleft(), DropReason.OVERTAKEN))
        self._queue.append(item)
        return dropped

    def _refusal(self) -> DropReason | None:
        refusals = {"paused": DropReason.PAUSED, "closed": DropReason.CLOSED}
        return refusals.get(self._state)

    def _drop(self, item: _Waiting, reason: DropReason) -> tuple[_Waiting, DropReason]:
        self._dropped[reason] += 1
        self._untold.append((item.frame.meta, reason))
        return item, reason

    # --- the session's thread ---

    def _work(self) -> None:
        while (item := self._take()) is not None:
            if item.future.set_running_or_notify_cancel():
                self._run(item)
            else:
                self._give_up(item, DropReason.CANCELLED)
        self._tell_drops()
        self._segmenter.close()

    def _take(self) -> _Waiting | None:
        """Wait for the next frame, telling of drops meanwhile; None at the end."""
        while True:
            self._tell_drops()
            with self._changed:
                self._changed.wait_for(
                    lambda: self._queue or self._untold or self._state == "closed"
                )
                if self._queue:
                    self._changed.notify_all()
                    return self._queue.popleft()
                if self._state == "closed" and not self._untold:
                    return None

    def _tell_drops(self) -> None:
        while self._untold:
            self._drops(*self._untold.popleft())

    def _run(self, item: _Waiting) -> None:
        taken_ns = time.monotonic_ns()
        try:
            result = self._segment(item.frame, taken_ns)
        except Exception as error:
            is_bad = isinstance(error, SlideError)
            self._give_up(item, DropReason.BAD_FRAME if is_bad else DropReason.ERROR, error)
            return
        with self._changed:
            self._done += 1
            self._last = result
            self._latency.add(result.latency.total_ms)
            self._result_ns.append(time.monotonic_ns())
            for name, count in result.counts.items():
                self._counts[name] += count
            self._changed.notify_all()
        item.future.set_result(result)
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

    def _give_up(self, item: _Waiting, reason: DropReason, error: Exception | None = None) -> None:
        with self._changed:
            self._drop(item, reason)
            self._changed.notify_all()
        _refuse(item, reason, error)
        if error is not None:
            _LOG.warning("frame %s: %s", item.frame.meta.frame_id, error)
            self._errors(item.frame.meta, error)


def _refuse(item: _Waiting, reason: DropReason, cause: Exception | None = None) -> None:
    """Let the future of a dropped frame say so."""
    if item.future.cancelled():
        return
    dropped = FrameDropped(item.frame.meta, reason)
    dropped.__cause__ = cause
    item.future.set_exception(dropped)


def _policy(name: Policy | str) -> Policy:
    try:
        return Policy(name)
    except ValueError:
        known = ", ".join(policy.value for policy in Policy)
        raise CellsegError(f"A policy is one of {known}. Received: policy={name}.") from None


def _rate(times_ns: deque[int], now_ns: int, started_ns: int) -> float:
    """Events a second over the last few seconds."""
    since_ns = max(now_ns - _FPS_WINDOW_NS, started_ns, times_ns[0] if times_ns else 0)
    recent = sum(1 for moment in times_ns if moment > since_ns)
    return recent / ((now_ns - since_ns) / 1e9) if now_ns > since_ns else 0.0
