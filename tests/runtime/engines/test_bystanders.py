"""A trial that others disturbed is repeated once they are gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cellseg.runtime.engines import bystanders, memory
from cellseg.runtime.engines.bystanders import Bystanders
from cellseg.runtime.engines.memory import recall, remember

KEY: dict[str, object] = {"what": "a trial"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("busy_s", "ours_s", "disturbed"),
    [
        (8.0, 8.0, False),
        (8.5, 8.0, False),
        (12.0, 8.0, False),  # the machine has four cores that we may not use
        (19.0, 8.0, True),
    ],
)
def test_only_cores_taken_from_us_count(
    monkeypatch: pytest.MonkeyPatch, busy_s: float, ours_s: float, disturbed: bool
) -> None:
    monkeypatch.setattr(bystanders, "usable_cores", lambda: 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    seconds = iter([(0.0, 100.0, 10.0), (2.0, 100.0 + busy_s, 10.0 + ours_s)])
    monkeypatch.setattr(bystanders, "_seconds", lambda: next(seconds))
    with Bystanders() as others:
        pass
    assert others.disturbed is disturbed


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux tells how busy cores are")
def test_time_of_all_cores_grows_by_our_own_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bystanders, "_STAT", Path("/proc/stat"))
    (_, busy_s, ours_s), total = bystanders._seconds(), 0
    while bystanders._seconds()[2] < ours_s + 0.05:
        total += sum(range(1000))
    assert bystanders._seconds()[1] - busy_s >= 0.03  # in ticks of a hundredth


def test_a_system_that_does_not_tell_is_taken_to_be_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bystanders, "_STAT", tmp_path / "nothing")
    assert not bystanders.is_busy()


@pytest.mark.parametrize(
    ("disturbed", "busy_now", "kept"),
    [(False, False, True), (False, True, True), (True, True, True), (True, False, False)],
)
def test_what_was_measured_under_load_serves_while_the_load_lasts(
    monkeypatch: pytest.MonkeyPatch, disturbed: bool, busy_now: bool, kept: bool
) -> None:
    monkeypatch.setattr(memory, "is_busy", lambda: busy_now)
    remember(KEY, "openvino int8", disturbed=disturbed)
    assert recall(KEY) == ("openvino int8" if kept else None)


@pytest.mark.parametrize("entry", ['"onnxruntime fp32"', '{"value": 1, "disturbed": false}', "[]"])
def test_an_entry_of_another_form_is_forgotten(cache: Path, entry: str) -> None:
    remember(KEY, "openvino int8")
    text = (cache / "engines.json").read_text().splitlines()
    (cache / "engines.json").write_text(f"{{{text[1].partition(':')[0]}: {entry}}}")
    assert recall(KEY) is None
