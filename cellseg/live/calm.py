"""What the interpreter itself does to a camera's thread, made small."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["calm_interpreter"]

_SWITCH_S = 5e-4


@contextmanager
def calm_interpreter() -> Iterator[None]:
    """Keep garbage collection and other threads from holding a camera's thread up.

    A full search for garbage stops every thread for a tenth of a second, now and then: what was
    imported and opened so far is left out of it. And a thread that wants the interpreter waits up
    to half a millisecond for one that computes, not five.

    Both hold for the whole process, so a program decides it, not a session. To be entered after
    `LiveSession.warm_up`.
    """
    before_s = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)
        gc.unfreeze()
