"""What systemd is told of a session: that it has begun, that it lives, how it does.

A few lines over a datagram socket (``sd_notify``), nothing where ``NOTIFY_SOCKET`` is not set.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cellseg.live.snapshot import LiveSnapshot

__all__ = ["Pulse", "ServiceNotifier", "notify"]

_LOG = logging.getLogger(__name__)
_STATUS_S = 5.0
_FIRST_RESULT_S = 120.0


class Observed(Protocol):
    """What is told of: a `cellseg.live.session.LiveSession`."""

    def snapshot(self) -> LiveSnapshot:
        """Return the state of this moment."""
        ...


class Pulse:
    """Tells a session that works from one that hangs.

    It hangs if frames wait and none is finished for a time; the first one may take longer, since
    an engine is opened for it. A camera that sends nothing is no fault of the session's.

    Parameters
    ----------
    patience_s : float
        How long a frame may take.

    Examples
    --------
    >>> pulse = Pulse(patience_s=10)
    >>> pulse.beats(done=1, waiting=1, now_s=0), pulse.beats(done=1, waiting=1, now_s=11)
    (True, False)
    >>> pulse.beats(done=1, waiting=0, now_s=12), pulse.beats(done=2, waiting=1, now_s=13)
    (True, True)
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._done = -1
        self._since_s = 0.0

    def beats(self, done: int, waiting: int, now_s: float) -> bool:
        """Look at the counters of this moment, and say whether there is life."""
        if done != self._done or waiting == 0:
            self._done, self._since_s = done, now_s
        patience_s = self._patience_s if done else max(self._patience_s, _FIRST_RESULT_S)
        return now_s - self._since_s < patience_s


class ServiceNotifier:
    """Tells systemd of a session while the block runs.

    Parameters
    ----------
    session : Observed
        Who is asked.

    Notes
    -----
    ``READY=1`` at once; ``WATCHDOG=1`` at half of ``WatchdogSec`` while there is life, else
    nothing, so that systemd starts the unit again; ``STATUS=`` every few seconds; ``STOPPING=1``.
    """

    def __init__(self, session: Observed) -> None:
        self._session, self._stopped = session, Event()
        watchdog_s = _watchdog_s()
        self._period_s = _STATUS_S if watchdog_s is None else min(_STATUS_S, watchdog_s / 2)
        self._pulse = None if watchdog_s is None else Pulse(watchdog_s)
        self._thread: Thread | None = None

    def __enter__(self) -> ServiceNotifier:
        if notify("READY=1"):
            self._thread = Thread(target=self._work, name="cellseg-service", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            notify("STOPPING=1")

    def _work(self) -> None:
        is_hung = False
        while True:
            seen = self._session.snapshot()
            counters = seen.counters
            lines = [f"STATUS={seen.fps:.1f} results/s, {counters.dropped} dropped"]
            if self._pulse is not None:
                if self._pulse.beats(counters.done, counters.waiting, time.monotonic()):
                    lines.append("WATCHDOG=1")
                elif not is_hung:
                    is_hung = True
                    _LOG.error("the session hangs: no word to systemd, which will restart it")
            notify(*lines)
            if self._stopped.wait(self._period_s):
                return


def notify(*lines: str) -> bool:
    """Send lines such as ``READY=1`` to systemd.

    Returns
    -------
    bool
        Whether the environment names a socket to send to; one that is gone is no error.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire, suppress(OSError):
        wire.settimeout(1.0)
        wire.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
        wire.sendall("\n".join(lines).encode())
    return True


def _watchdog_s() -> float | None:
    """Return WatchdogSec of the unit; None where there is none, or it is for another process."""
    text, owner = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not text.isdigit() or int(text) == 0 or (owner and owner != str(os.getpid())):
        return None
    return int(text) / 1e6
