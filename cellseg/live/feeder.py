"""From a source into a session, in a thread of its own, until it ends or is stopped."""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellseg.live.frame import Frame
    from cellseg.live.session import LiveSession
    from cellseg.live.sources.base import Source

__all__ = ["Feeder"]

_PATIENCE_S = 5.0


class Feeder:
    """Reads frames and submits them.

    Parameters
    ----------
    source : Source
        Open; the feeder closes it.
    session : LiveSession
        Stays open.
    frames : int, optional
        End after so many.
    tap : callable, optional
        Is given each frame, too, whatever the session does with it.
    """

    def __init__(
        self,
        source: Source,
        session: LiveSession,
        frames: int | None = None,
        tap: Callable[[Frame], object] | None = None,
    ) -> None:
        self._source, self._session, self._frames, self._tap = source, session, frames, tap
        self._stop, self._ended = Event(), Event()
        self._is_given_up = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._feed, name="cellseg-feeder", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether frames may still come."""
        return self._thread.ident is not None and not self._ended.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; return whether it came in time."""
        # Thread.join that a Ctrl-C breaks off takes a thread for ended that still runs.
        return self._ended.wait(timeout_s)

    def stop(self) -> None:
        """End, and close the source; a driver that does not answer is given five seconds, once."""
        self.stop_soon()
        if self._thread.ident is None:  # never started: nobody else will close it
            self._source.close()
        elif not self._is_given_up:
            self._is_given_up = not self._ended.wait(_PATIENCE_S)

    def stop_soon(self) -> None:
        """Ask for the end; a feeder that waits for room in the session goes on waiting."""
        self._stop.set()

    def raise_failure(self) -> None:
        """Raise what ended the source, if it was an error."""
        if self._error is not None:
            raise self._error

    def _feed(self) -> None:
        try:
            self._submit_all()
        except BaseException as error:
            if not self._stop.is_set():  # a session closed under a feeder that stops is no failure
                self._error = error
        finally:
            try:
                self._source.close()
            finally:
                self._ended.set()

    def _submit_all(self) -> None:
        for sent, frame in enumerate(self._source.frames(self._stop), start=1):
            if self._stop.is_set():
                return
            if self._tap is not None:
                self._tap(frame)
            self._session.submit(frame)
            if sent == self._frames:
                return
