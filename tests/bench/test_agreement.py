"""Runs of one matrix agree where their intervals overlap, and the table says where they do not."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cellseg.bench.record import Estimate
from tests.bench.made_reports import made_report, made_row

MACHINE = {"cpu": "Some CPU", "cpu_flags": ["avx2"], "cores": 4, "system": "Linux 6"}


@pytest.fixture
def agreement(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "bench")
    import agreement as module

    return module


def record(agreement: ModuleType, *speeds: float) -> Any:
    reports = [made_report(made_row(times_ms=ms, seed=i)) for i, ms in enumerate(speeds)]
    return agreement.record_of(reports, ["--tile", "1024"])


def test_runs_of_one_speed_agree_on_every_number(agreement: ModuleType) -> None:
    found = record(agreement, 100.0, 100.0, 100.0)
    assert [line["number"] for line in found["lines"]] == ["p50, ms", "p90, ms", "p99, ms", "MP/s"]
    assert (found["pairs"], found["apart"], found["invalid"]) == (12, 0, [])


def test_a_run_that_was_slower_lies_apart_from_the_two_others(agreement: ModuleType) -> None:
    found = record(agreement, 100.0, 100.0, 120.0)
    assert (found["pairs"], found["apart"]) == (12, 8)
    assert "2 of 3 pairs apart" in agreement.page(found | {"machine": MACHINE})


def test_what_disturbed_a_run_stands_above_the_table(agreement: ModuleType) -> None:
    from cellseg.bench.record import MachineState

    slept = made_report(made_row(state=MachineState(slept_s=30.0)))
    found = agreement.record_of([made_report(made_row()), slept], [])
    text = agreement.page(found | {"machine": MACHINE})
    assert text.index("the machine slept for 150 s") < text.index("| contestant |")


def test_the_table_in_the_docs_is_that_of_the_record(
    agreement: ModuleType, repository: Path
) -> None:
    page = (repository / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    shown = page.split("<!-- agreement:begin -->")[1].split("<!-- agreement:end -->")[0].strip()
    kept = agreement.RESULTS.exists()
    text = agreement.page(json.loads(agreement.RESULTS.read_text())) if kept else None
    assert shown == (text or "Not measured yet."), "run: python bench/agreement.py --page"


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [((1, 2), (2, 3), True), ((1, 2), (2.1, 3), False), ((1, 2), (None, None), False)],
)
def test_intervals_agree_where_they_have_a_point_in_common(
    agreement: ModuleType, one: Any, other: Any, agree: bool
) -> None:
    pair = [Estimate(value=1.5, low=low, high=high) for low, high in (one, other)]
    assert agreement.overlap(*pair) is agree
    assert agreement.overlap(*reversed(pair)) is agree
