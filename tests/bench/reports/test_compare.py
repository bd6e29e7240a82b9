"""Comparisons see what changed, and do not take noise for a change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cellseg.bench.record import load_report, report_schema
from cellseg.bench.reports.compare import compare_reports
from cellseg.bench.reports.condition import parse_conditions
from cellseg.bench.reports.markdown import report_markdown
from cellseg.errors import BenchError
from tests.bench.made_reports import MACHINE, made_report, made_row


def regressions(before: Any, after: Any, *conditions: str) -> list[str]:
    parsed = parse_conditions(conditions)
    found = compare_reports(before, after)
    found.check_covered(parsed)
    return [change.metric for change, _ in found.regressions(parsed)]


def test_a_slower_engine_is_a_regression_of_latency_and_throughput() -> None:
    before = made_report(made_row(times_ms=100, seed=1))
    after = made_report(made_row(times_ms=115, seed=2))
    asked = ("p50>+5%", "p90>+5%", "p99>+5%", "throughput<-5%")
    assert regressions(before, after, *asked) == ["p50", "p90", "p99", "throughput"]
    assert regressions(before, after, "p50>+20%") == []
    assert regressions(after, before, *asked) == []


def test_a_change_within_the_noise_fails_only_where_that_is_asked() -> None:
    before = made_report(made_row(times_ms=100, seed=1))
    after = made_report(made_row(times_ms=100.2, seed=1))
    assert regressions(before, after, "p50>+0.1%") == []
    assert regressions(before, after, "p50>+0.1%!") == ["p50"]


def test_a_gain_that_is_asked_for_must_be_there() -> None:
    before = made_report(made_row(times_ms=100, seed=1))
    faster = made_report(made_row(times_ms=80, seed=1))
    assert regressions(before, before, "p50>-10%", "throughput<+10%") == ["p50", "throughput"]
    assert regressions(before, faster, "p50>-10%", "throughput<+10%") == []


@pytest.mark.parametrize("texts", [[""], [" , "]])
def test_an_empty_condition_is_no_pass(texts: list[str]) -> None:
    with pytest.raises(BenchError, match="an empty one"):
        parse_conditions(texts)


def test_a_loss_of_accuracy_is_a_difference_not_a_share() -> None:
    before = made_report(made_row())
    row = made_row()
    worse = row.accuracy[0].model_copy(update={"dice": {"nucleus": 0.88}})
    after = made_report(row.model_copy(update={"accuracy": (worse,)}))
    assert regressions(before, after, "dice<-0.01") == ["dice"]
    assert regressions(before, after, "dice<-0.03") == []


def test_a_loss_on_one_set_is_not_hidden_by_a_set_that_is_worse_anyway() -> None:
    row = made_row()
    hard = row.accuracy[0].model_copy(
        update={"dataset": "hard", "dice": {"nucleus": 0.5}, "object_f1": 0.4}
    )
    lost = row.accuracy[0].model_copy(update={"dice": {"nucleus": 0.8}, "object_f1": 0.6})
    before = made_report(row.model_copy(update={"accuracy": (row.accuracy[0], hard)}))
    after = made_report(row.model_copy(update={"accuracy": (lost, hard)}))
    assert regressions(before, after, "dice<-0.01", "f1<-0.01") == ["dice", "f1"]
    changes = {change.metric: change for change in compare_reports(before, after).changes}
    assert changes["dice"].words == "dice of test nucleus"
    assert (changes["f1"].before, changes["f1"].after, changes["f1"].of) == (0.8, 0.6, "test")


def test_sets_that_one_report_alone_has_are_told_and_not_compared() -> None:
    row = made_row()
    other = row.accuracy[0].model_copy(update={"dataset": "other", "dice": {"nucleus": 0.1}})
    before, after = made_report(row), made_report(row.model_copy(update={"accuracy": (other,)}))
    found = compare_reports(before, after)
    assert not [change for change in found.changes if change.metric in ("dice", "f1")]
    assert "accuracy on test: only in the first report" in found.warnings
    assert "accuracy on other: only in the second report" in found.warnings
    with pytest.raises(BenchError, match="must have a row"):
        regressions(before, after, "dice<-0.01")


def test_a_condition_may_name_its_scenario() -> None:
    before = made_report(made_row("slide", times_ms=10), made_row("cold", times_ms=10))
    after = made_report(made_row("slide", times_ms=20), made_row("cold", times_ms=10))
    assert regressions(before, after, "slide:p50>+5%") == ["p50"]
    assert regressions(before, after, "cold:p50>+5%") == []


def test_a_condition_that_no_row_can_be_held_against_is_no_pass() -> None:
    few = made_report(made_row(samples=5))
    with pytest.raises(BenchError, match=r"none for p99>\+5%"):
        regressions(few, few, "p99>+5%")


def test_a_contestant_that_died_is_named() -> None:
    row = made_row()
    dead = row.model_copy(update={"status": "failed", "failure": "ended by SIGSEGV", "rounds": ()})
    found = compare_reports(made_report(row), made_report(dead))
    assert found.failed == [f"{row.key}: ended by SIGSEGV"]


def test_a_contestant_that_an_interrupted_run_did_not_reach_is_no_regression() -> None:
    row = made_row()
    later = row.model_copy(update={"status": "interrupted", "rounds": ()})
    found = compare_reports(made_report(row), made_report(later, status="interrupted"))
    assert found.failed == []
    assert f"{row.key}: not reached, the second run was interrupted" in found.warnings


def test_another_machine_is_told_and_not_judged() -> None:
    here = made_report(made_row())
    there = made_report(made_row(), machine=MACHINE | {"cpu": "Another CPU"})
    found = compare_reports(here, there)
    assert found.warnings == ["another machine: cpu: Some CPU and Another CPU"]
    with pytest.raises(BenchError, match="Conditions hold on one machine"):
        found.check_machine(is_accepted=False)
    found.check_machine(is_accepted=True)


@pytest.mark.parametrize("text", ["p99", "p99>5%", "speed>+5%", "night:p50>+5%", "p50>=+5%"])
def test_a_condition_outside_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(BenchError):
        parse_conditions([text])


def test_a_report_reads_back_as_it_was_written(tmp_path: Path) -> None:
    report = made_report()
    (tmp_path / "bench.json").write_text(report.to_json())
    assert load_report(tmp_path) == report


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"schema": "cellseg.bench/2"}', "schema='cellseg.bench/2'"),
        ('{"schema": "cellseg.bench/1"}', "keep to its schema"),
        ("[]", "schema=None"),
        ("not json", "JSON file that can be read"),
    ],
)
def test_what_is_no_report_of_this_schema_is_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=match):
        load_report(path)


def test_the_schema_in_the_docs_is_that_of_the_code(repository: Path) -> None:
    kept = (repository / "docs/schema/bench.schema.json").read_text(encoding="utf-8")
    assert kept == report_schema()


def test_a_bar_in_the_name_of_a_set_ends_no_cell_of_a_table() -> None:
    row = made_row()
    odd = row.accuracy[0].model_copy(update={"dataset": "a|b"})
    text = report_markdown(made_report(row.model_copy(update={"accuracy": (odd,)})))
    (line,) = [line for line in text.splitlines() if "a\\|b" in line]
    assert line.count("|") - line.count("\\|") == 10  # nine columns
