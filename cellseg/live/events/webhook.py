"""POSTs events in a thread of its own: a slow or dead receiver stops nothing."""

from __future__ import annotations

import json
import logging
import queue
import time
import urllib.request
from http.client import HTTPException
from threading import Thread
from typing import Any

__all__ = ["Webhook"]

_LOG = logging.getLogger(__name__)
_WAITING = 64
_TIMEOUT_S = 5.0


class Webhook:
    """Sends JSON values; what cannot be sent is logged, and counted.

    Attributes
    ----------
    sent, failed : int
        How many have been.
    """

    def __init__(self) -> None:
        self.sent = self.failed = 0
        self._queue: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue(_WAITING)
        self._thread: Thread | None = None

    def post(self, url: str, value: dict[str, Any]) -> None:
        """Send a value as soon as can be; drop it where too many wait."""
        if self._thread is None:
            self._thread = Thread(target=self._send_all, name="cellseg-webhook", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait((url, value))
        except queue.Full:
            self._fail(url, "too many wait")

    def close(self) -> None:
        """Give what waits a few seconds to be sent."""
        until_s = time.monotonic() + _TIMEOUT_S
        while self._queue.unfinished_tasks and time.monotonic() < until_s:
            time.sleep(0.01)

    def _send_all(self) -> None:
        while True:
            url, value = self._queue.get()
            self._send(url, value)
            self._queue.task_done()

    def _send(self, url: str, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
                self.sent += 1
        except (OSError, ValueError, HTTPException) as error:
            self._fail(url, f"{type(error).__name__}: {error}")

    def _fail(self, url: str, why: str) -> None:
        self.failed += 1
        if self.failed == 1:
            _LOG.warning("webhook %s: %s", url, why)
