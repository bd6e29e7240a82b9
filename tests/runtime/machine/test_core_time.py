"""The kernel's count of busy cores, from files written by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cellseg.runtime.machine.core_time import CoreTime, read_core_time

pytestmark = pytest.mark.skipif(not hasattr(os, "sysconf"), reason="Linux counts in ticks")
STAT = """cpu  300 0 60 1000 40 6 4 20 0 0
cpu0 100 0 20 500 20 2 2 10 0 0
cpu1 200 0 40 500 20 4 2 10 0 0
intr 7
"""


@pytest.fixture
def stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    path = tmp_path / "stat"
    path.write_text(STAT)
    return path


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (None, CoreTime(3.70, 0.20, 14.30)),
        ({1}, CoreTime(2.46, 0.10, 7.76)),
        ({0, 1}, CoreTime(3.70, 0.20, 14.30)),
    ],
)
def test_waiting_is_not_work_and_stolen_time_is_counted_apart(
    stat: Path, cores: set[int] | None, expected: CoreTime
) -> None:
    found = read_core_time(stat, cores)
    assert found is not None
    assert (found.busy_s, found.stolen_s, found.total_s) == pytest.approx(
        (expected.busy_s, expected.stolen_s, expected.total_s)
    )


@pytest.mark.parametrize("text", ["", "cpu 1 2 3\n", "cpu a b c d e f g h\n", None])
def test_a_system_that_does_not_tell_gives_nothing(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "stat"
    if text is not None:
        path.write_text(text)
    assert read_core_time(path) is None
