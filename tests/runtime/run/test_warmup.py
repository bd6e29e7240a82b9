"""Getting ready beside the engine neither stops a run nor outlives it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cellseg.runtime.run import warmup


def test_kernels_are_loaded_before_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []
    monkeypatch.setattr(warmup, "_warm", loaded.append)
    job: Any = object()
    with warmup.warming(job):
        pass
    assert loaded == [job]
    assert not [t for t in threading.enumerate() if t.name.startswith("cellseg-warm-up")]


def test_what_fails_is_left_for_the_first_tile_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: Any) -> None:
        raise ImportError("no numba here")

    monkeypatch.setattr(warmup, "_warm", fail)
    job: Any = object()
    with warmup.warming(job):
        reached = True
    assert reached
