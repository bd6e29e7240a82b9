"""What reads frames: how it ends."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from cellseg.live import feeder as module
from cellseg.live.feeder import Feeder

_BROKEN_OFF = """
import signal, time
from cellseg.live.feeder import Feeder

class Slow:
    closed = False
    def frames(self, stop):
        time.sleep(1)
        yield from ()
    def close(self):
        self.closed = True

def interrupt(*_):
    raise KeyboardInterrupt

source = Slow()
feeder = Feeder(source, None)
feeder.start()
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    feeder.stop()
except KeyboardInterrupt:
    print(feeder.is_running)
feeder.stop()
print(feeder.is_running, source.closed)
"""


class DeafSource:
    """Does not answer until it is let go."""

    def __init__(self) -> None:
        self.let_go = Event()

    def frames(self, _: Event) -> Iterator[Any]:
        self.let_go.wait(10)
        yield from ()

    def close(self) -> None:
        pass


def test_a_driver_that_does_not_answer_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.4)
    source: Any = DeafSource()
    session: Any = None
    feeder = Feeder(source, session)
    feeder.start()
    started_s = time.monotonic()
    feeder.stop()
    feeder.stop()
    elapsed_s = time.monotonic() - started_s
    assert feeder.is_running
    source.let_go.set()
    assert feeder.wait(5)
    assert 0.4 <= elapsed_s < 0.8


@pytest.mark.skipif(sys.platform == "win32", reason="no such timer")
def test_a_stop_that_is_broken_off_still_knows_that_the_source_is_read() -> None:
    done = subprocess.run([sys.executable, "-c", _BROKEN_OFF], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False", "True"], done.stderr
