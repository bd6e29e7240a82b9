"""Busy time of each stage: what a run spends where, and which stage holds it back."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["STAGES", "Stage", "StageClock"]

Stage = Literal["read", "infer", "stitch", "cells", "write"]
STAGES: Final[tuple[Stage, ...]] = ("read", "infer", "stitch", "cells", "write")


class StageClock:
    """Adds up, over all threads, the seconds in which a stage worked and did not wait.

    Parameters
    ----------
    earlier_s : mapping of stage to float, optional
        Busy seconds of earlier sessions of the same run.

    Attributes
    ----------
    threads : mapping of stage to int
        Threads of each stage; those that are missing have one.

    Notes
    -----
    A thread that computes beside others is counted with the time it takes, waiting for a core
    included: on two cores, three busy threads add three seconds a second.
    """

    def __init__(self, earlier_s: Mapping[str, float] | None = None) -> None:
        self.threads: Mapping[Stage, int] = {}
        self._earlier_s = dict(earlier_s or {})
        self._busy_s: dict[Stage, float] = {}
        self._lock = Lock()

    @contextmanager
    def busy(self, stage: Stage) -> Iterator[None]:
        """Count the time in this context as work of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self._busy_s[stage] = self._busy_s.get(stage, 0.0) + spent

    def seconds(self) -> dict[str, float | None]:
        """Return busy seconds of every stage, earlier sessions included; None if it never ran."""
        with self._lock:
            return {stage: self._total(stage) for stage in STAGES}

    def session_seconds(self) -> dict[str, float | None]:
        """Return busy seconds of this session alone, for the stages that ran."""
        with self._lock:
            spent: dict[str, float | None] = dict(self._busy_s.items())
        return spent

    def bottleneck(self, elapsed_s: float) -> tuple[Stage, float] | None:
        """Return the stage whose threads were busy for the largest part of a time, and that part.

        Parameters
        ----------
        elapsed_s : float
            Seconds since the stages began.
        """
        with self._lock:
            shares = {
                stage: spent / (elapsed_s * self.threads.get(stage, 1))
                for stage, spent in self._busy_s.items()
                if elapsed_s > 0
            }
        if not shares:
            return None
        stage = max(shares, key=lambda name: shares[name])
        return stage, min(1.0, shares[stage])

    def _total(self, stage: Stage) -> float | None:
        now, before = self._busy_s.get(stage), self._earlier_s.get(stage)
        return None if now is None and before is None else (now or 0.0) + (before or 0.0)
