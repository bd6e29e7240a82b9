"""A process in which a camera is not held up by the interpreter."""

from __future__ import annotations

import gc
import sys

from cellseg.live.calm import calm_interpreter


def test_it_holds_inside_and_is_undone_after() -> None:
    before_s, frozen = sys.getswitchinterval(), gc.get_freeze_count()
    with calm_interpreter():
        assert sys.getswitchinterval() < 1e-3
        assert gc.get_freeze_count() > frozen
    assert sys.getswitchinterval() == before_s
    assert gc.get_freeze_count() == 0
