"""Where frames wait between the threads that bring them and the one that segments them.

::

    camera's thread ── put ──> slips (one a frame, in order) ──> take ── the session's thread
                        '────> frames (at most ``size``)   ───────^

Each frame leaves a slip; its pixels lie beside, and whoever takes them out, `put` of a newer frame
or `take`, has decided what becomes of it. Slips and frames change hands in single steps that the
interpreter never divides, so a camera shares no lock with a session and cannot wait for one. Only
``block`` waits, as it is told to.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Condition, Lock, get_ident
from typing import TYPE_CHECKING, Literal

from cellseg.errors import CellsegError
from cellseg.live.counters import DropReason, Policy

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cellseg.live.frame import Frame, FrameMeta
    from cellseg.live.result import FrameResult

__all__ = ["Intake", "Slip", "State"]

State = Literal["running", "paused", "closed"]
_REFUSALS = {"paused": DropReason.PAUSED, "closed": DropReason.CLOSED}


@dataclass(frozen=True, eq=False)
class Slip:
    """A frame without its pixels."""

    number: int
    """Counts frames from 0, in the order in which they came."""

    meta: FrameMeta
    """What is known of it."""

    future: Future[FrameResult]
    """Of its result."""

    refusal: DropReason | None
    """Why it was not let in; None: it was."""


class Intake:
    """A bounded queue from cameras to a session.

    Parameters
    ----------
    policy : Policy
        What happens to a frame that comes while the queue is full.
    size : int
        Frames that may wait.

    Attributes
    ----------
    state : {"running", "paused", "closed"}
        Whether it takes frames.
    sent : int
        Frames that came.
    clock_jumps : int
        Frames whose exposure started before their predecessor's, or in the future.
    """

    def __init__(self, policy: Policy, size: int) -> None:
        self._policy, self._size = policy, size
        self.state: State = "running"
        self.sent = self.clock_jumps = 0
        self._slips: SimpleQueue[Slip | None] = SimpleQueue()
        self._frames: dict[int, Frame] = {}
        self._newest: deque[int] = deque()  # numbers of the last ones let in, for drop-oldest
        self._latest_exposure_ns = 0
        self._drains = True
        self._feeding = Lock()  # between cameras; of others only `close` takes it
        self._switching = Lock()
        self._room = Condition()  # for `block`
        self._free = size
        self._taker = 0  # thread that takes them out

    # --- the camera's side ---

    def put(self, frame: Frame, future: Future[FrameResult]) -> None:
        """Let a frame wait; the policy says which one has to go for it.

        Parameters
        ----------
        frame : Frame
            Its pixels are not looked at.
        future : Future
            Of its result.

        Raises
        ------
        CellsegError
            If it is closed, or whoever takes frames out would wait for itself: the only one who
            makes room is the one who brings this frame.
        """
        with self._feeding:
            if self.state == "closed":
                raise CellsegError(
                    "A closed session takes no frames. Received: submit after close."
                )
            waits = self._policy is Policy.BLOCK and get_ident() != self._taker
            refusal = None if waits else self._refusal()
            number, self.sent = self.sent, self.sent + 1
            self._check_clock(frame.meta.exposure_start_ns)
            if not waits:
                self._let_in(number, frame, future, refusal)
                return
        try:
            refusal = self._refusal_after_waiting()
        except BaseException:  # Ctrl-C while it waits: it has its number, and others wait for it
            self._let_in(number, frame, future, DropReason.CANCELLED)
            raise
        self._let_in(number, frame, future, refusal)

    def pause(self) -> None:
        """Refuse what comes from now on, until `resume`."""
        self._switch("running", "paused")

    def resume(self) -> None:
        """Take frames again after `pause`."""
        self._switch("paused", "running")

    def close(self, drains: bool) -> None:
        """Take no more frames; with ``drains``, those that wait can still be taken out."""
        with self._switching, self._feeding:
            self.state = "closed"
            self._drains = drains
        with self._room:
            self._room.notify_all()
        self.wake()

    # --- the session's side ---

    def wake(self) -> None:
        """Let `take` return, so that its caller looks around."""
        self._slips.put(None)

    def take(self) -> tuple[Slip, Frame | DropReason] | None:
        """Wait for the next frame, in the order they came.

        Returns
        -------
        (Slip, Frame or DropReason) or None
            The frame, or why it is not segmented; None after `wake`.
        """
        self._taker = get_ident()
        slip = self._slips.get()
        if slip is None:
            return None
        if slip.refusal is not None:
            return slip, slip.refusal
        frame = self._frames.pop(slip.number, None)
        self._make_room()
        if frame is None:
            return slip, DropReason.OVERTAKEN
        if self.state == "closed" and not self._drains:
            return slip, DropReason.CLOSED
        return slip, frame

    # --- inside ---

    def _let_in(
        self,
        number: int,
        frame: Frame,
        future: Future[FrameResult],
        refusal: DropReason | None,
    ) -> None:
        if refusal is None:
            self._frames[number] = frame
            if self._policy is Policy.DROP_OLDEST:
                self._newest.append(number)
                if len(self._newest) > self._size:
                    self._frames.pop(self._newest.popleft(), None)  # if it still waits
        self._slips.put(Slip(number, frame.meta, future, refusal))

    def _refusal(self) -> DropReason | None:
        if self._policy is Policy.BLOCK:
            return self._refusal_of_taker()
        if self._policy is Policy.DROP_NEWEST and len(self._frames) >= self._size:
            return _REFUSALS.get(self.state, DropReason.QUEUE_FULL)
        return _REFUSALS.get(self.state)

    def _refusal_after_waiting(self) -> DropReason | None:
        with self._room:
            self._room.wait_for(lambda: self._free > 0 or self.state != "running")
            refusal = _REFUSALS.get(self.state)
            self._free -= refusal is None
        return refusal

    def _refusal_of_taker(self) -> DropReason | None:
        with self._room:
            refusal = _REFUSALS.get(self.state)
            if refusal is None and self._free < 1:
                raise CellsegError(
                    "A listener must not wait for room that its own thread would have to make. "
                    f"Received: policy={self._policy.value}, queue_size={self._size}, all taken.",
                    hint="Submit from another thread, or give the session a longer queue.",
                )
            self._free -= refusal is None
        return refusal

    def _make_room(self) -> None:
        if self._policy is Policy.BLOCK:
            with self._room:
                self._free += 1
                self._room.notify()

    def _switch(self, before: State, after: State) -> None:
        with self._switching:
            if self.state == before:
                self.state = after
        with self._room:
            self._room.notify_all()

    def _check_clock(self, exposure_start_ns: int) -> None:
        """Count a timestamp before its predecessor's, or in the future."""
        if self._latest_exposure_ns <= exposure_start_ns <= time.monotonic_ns():
            self._latest_exposure_ns = exposure_start_ns
        else:
            self.clock_jumps += 1
