"""Tiles through threads: read -> infer -> stitch -> write, joined by bounded queues.

::

    workers x read --ready--> concurrency x infer --inferred--> stitch --finished--> write
                    batch            ^                  |         8
                                     '---- buffers <----'

Every queue is bounded and the float buffers are a fixed few that go round, so that a run holds the
same memory at its first tile and at its millionth. A tile's bytes depend on nothing but the tile:
whatever the number of threads, and in whatever order tiles finish, the result is the same.

The first exception stops everything: tiles that were stitched are still written, the others are
dropped, and the caller gets the exception with the tile it happened at. The caller's own thread
does no work; it waits, reports progress, and is where Ctrl-C arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Condition, Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from cellseg.errors import (
    DOCTOR_HINT,
    CellsegError,
    EngineError,
    SlideError,
    StoreError,
    broken_package,
)
from cellseg.runtime.run.channel import Channel, ChannelClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from cellseg.runtime.engines.trim import Output
    from cellseg.runtime.run.stages import Stage, StageClock
    from cellseg.runtime.tiles.plan import Tile

__all__ = ["Limits", "Steps", "run_tiles"]

_FINISHED_CAPACITY = 8
_MOST_UNCOMMITTED = 16
_TICK_S = 0.1
_ERROR_OF_STAGE: dict[str, type[CellsegError]] = {
    "read": SlideError,
    "infer": EngineError,
    "stitch": EngineError,
    "write": StoreError,
}

Result = TypeVar("Result")
Piece = TypeVar("Piece")


class Steps(Protocol[Result]):
    """What is done to a tile; each step is called by the threads of its stage."""

    def read(self, tile: Tile) -> NDArray[np.uint8]:
        """Return the tile's pixels, uint8 (h, w, 3). Several threads at once."""
        ...

    def infer(self, tile: Tile, rgb: NDArray[np.uint8], out: NDArray[np.float32]) -> Output:
        """Return the network's channels, in the memory of ``out``. Several threads at once."""
        ...

    def stitch(self, tile: Tile, output: Output) -> Result:
        """Return what is kept; ``output`` is used again for another tile afterwards."""
        ...

    def write(self, tile: Tile, result: Result) -> None:
        """Keep a result. One thread."""
        ...

    def commit(self) -> None:
        """Make what was written last. The same thread."""
        ...


@dataclass(frozen=True)
class Limits:
    """How many threads and tiles there are at once. They change speed and memory, nothing else."""

    workers: int
    """Threads that read."""

    concurrency: int
    """Threads that infer."""

    batch: int
    """Tiles that wait for the engine."""

    outputs: int
    """Buffers for the network's output, at least ``concurrency``."""

    output_shape: tuple[int, int, int]
    """Shape of such a buffer: (h, w, C)."""

    lookahead: int | None = None
    """Tiles that may be begun from the oldest unfinished one on; None: as many as the queues take.

    It bounds what a stitcher must hold while tiles overtake each other.
    """


def run_tiles(
    tiles: Iterable[Tile],
    steps: Steps[Any],
    limits: Limits,
    clock: StageClock,
    tick: Callable[[], None] | None = None,
) -> None:
    """Run tiles through the four steps and return when the last one is written.

    Parameters
    ----------
    tiles : iterable of Tile
        Taken one by one as readers are free.
    steps : Steps
        What to do.
    limits : Limits
        Threads, queues, buffers.
    clock : StageClock
        Is told how long each stage worked.
    tick : callable, optional
        Called from this thread about ten times a second, and once at the end.

    Raises
    ------
    CellsegError
        The first error of any stage, its message ending with the tile. Other exceptions become the
        stage's own error, with the original as its cause.
    KeyboardInterrupt
        After all threads have stopped and what was stitched is written.
    """
    run = _Run(iter(tiles), steps, limits, clock)
    run.start()
    try:
        while not run.ended.wait(_TICK_S):
            if tick is not None:
                tick()
    finally:
        run.stop()
    run.raise_failure()
    if tick is not None:
        tick()


@dataclass(frozen=True)
class _Failure:
    stage: Stage
    tile: Tile | None
    error: BaseException


class _Run(Generic[Result]):
    """Threads and queues of one call of `run_tiles`."""

    def __init__(self, tiles: Any, steps: Steps[Result], limits: Limits, clock: StageClock) -> None:
        self._tiles, self._steps, self._clock = tiles, steps, clock
        self._next_lock = Lock()
        self._failure: _Failure | None = None
        self._failure_lock = Lock()
        self.ended = Event()
        self._ready: Channel[tuple[Tile, NDArray[np.uint8]]] = Channel(limits.batch, limits.workers)
        self._inferred: Channel[tuple[Tile, Output, NDArray[np.float32]]] = Channel(
            limits.outputs, limits.concurrency
        )
        self._finished: Channel[tuple[Tile, Result]] = Channel(_FINISHED_CAPACITY)
        self._buffers: Channel[NDArray[np.float32]] = Channel(limits.outputs)
        self._order = _Order(limits.lookahead)
        for _ in range(limits.outputs):
            self._buffers.put(np.empty(limits.output_shape, np.float32))
        bodies = (
            [self._read] * limits.workers
            + [self._infer] * limits.concurrency
            + [self._stitch, self._write]
        )
        self._threads = [Thread(target=body, daemon=True) for body in bodies]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Drop what is not stitched yet, write what is, and wait for the threads."""
        self._cancel()
        for thread in self._threads:
            thread.join()

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise _with_tile(self._failure) from self._failure.error

    def _read(self) -> None:
        try:
            while (tile := self._next_tile()) is not None:
                rgb = self._work("read", tile, self._steps.read, tile)
                self._ready.put((tile, rgb))
        except ChannelClosed:
            pass
        finally:
            self._ready.close()

    def _infer(self) -> None:
        try:
            while True:
                tile, rgb = self._ready.get()
                out = self._buffers.get()
                output = self._work("infer", tile, self._steps.infer, tile, rgb, out)
                self._inferred.put((tile, output, out))
        except ChannelClosed:
            pass
        finally:
            self._inferred.close()

    def _stitch(self) -> None:
        try:
            while True:
                tile, output, out = self._inferred.get()
                result = self._work("stitch", tile, self._steps.stitch, tile, output)
                self._finished.put((tile, result))  # first: a cancelled run keeps it
                self._order.finish(tile.index)
                self._buffers.put(out)
        except ChannelClosed:
            pass
        finally:
            self._finished.close()

    def _write(self) -> None:
        """Write what comes; commit when there is nothing to write, or a lot was written.

        While a commit waits for the disk, tiles gather; the next commit then covers them all. So a
        slow disk makes larger commits, not a slower run.
        """
        uncommitted = 0
        try:
            while True:
                tile, result = self._finished.get()
                self._work("write", tile, self._steps.write, tile, result)
                uncommitted += 1
                if len(self._finished) == 0 or uncommitted >= _MOST_UNCOMMITTED:
                    self._work("write", tile, self._steps.commit)
                    uncommitted = 0
        except ChannelClosed:
            pass
        finally:
            self._finished.cancel()
            self.ended.set()

    def _next_tile(self) -> Tile | None:
        """Take the next tile; the iterable may fail like any other work."""
        with self._next_lock:
            self._order.wait()
            tile: Tile | None = self._work("read", None, next, self._tiles, None)
            if tile is not None:
                self._order.begin(tile.index)
        return tile

    def _work(
        self, stage: Stage, tile: Tile | None, step: Callable[..., Piece], *arguments: Any
    ) -> Piece:
        """Do a step on the clock; note what it raises and end this thread."""
        try:
            with self._clock.busy(stage):
                return step(*arguments)
        except BaseException as error:
            self._fail(_Failure(stage, tile, error))
            raise ChannelClosed from error

    def _fail(self, failure: _Failure) -> None:
        with self._failure_lock:
            self._failure = self._failure or failure
        self._cancel()

    def _cancel(self) -> None:
        """Stop all but the writing of what is finished."""
        for channel in (self._ready, self._inferred, self._buffers):
            channel.cancel()
        self._order.cancel()


class _Order:
    """Tiles under way, in the order in which they were begun."""

    def __init__(self, lookahead: int | None) -> None:
        self._lookahead = lookahead
        self._begun: dict[int, bool] = {}  # tile: is it finished? Oldest first, itself unfinished.
        self._is_cancelled = False
        self._changed = Condition()

    def wait(self) -> None:
        """Wait until one more may begin."""
        with self._changed:
            self._changed.wait_for(self._has_room)
            if self._is_cancelled:
                raise ChannelClosed

    def begin(self, index: int) -> None:
        with self._changed:
            self._begun[index] = False

    def finish(self, index: int) -> None:
        with self._changed:
            self._begun[index] = True
            while self._begun and self._begun[oldest := next(iter(self._begun))]:
                del self._begun[oldest]
            self._changed.notify_all()

    def cancel(self) -> None:
        with self._changed:
            self._is_cancelled = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        is_full = self._lookahead is not None and len(self._begun) >= self._lookahead
        return self._is_cancelled or not is_full


def _with_tile(failure: _Failure) -> CellsegError:
    """Make the error that the caller sees: the same kind, with its tile."""
    error, where = failure.error, "" if failure.tile is None else f" (at {failure.tile})"
    if isinstance(error, CellsegError):
        return type(error)(f"{error}{where}", hint=error.hint)
    kind = _ERROR_OF_STAGE[failure.stage]
    text = f"The {failure.stage} stage failed{where}: {type(error).__name__}: {error}"
    return kind(text, hint=_hint_for(error))


def _hint_for(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return "Try smaller tiles (--tile)."
    return DOCTOR_HINT if broken_package(error) else None
