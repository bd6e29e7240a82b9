"""The table of every bar is what the results say, and a bar is met or not by its own rule."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def bench(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(repository / "bench")


@pytest.fixture
def bar(bench: None) -> ModuleType:
    import bar as module

    return module


def test_the_table_in_the_docs_is_what_the_results_say(bench: None, repository: Path) -> None:
    import bars

    page = (repository / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    shown = page.split("<!-- bars:begin -->")[1].split("<!-- bars:end -->")[0].strip()
    assert shown == bars.table_of_bars(), "run: python bench/bars.py --page"


def test_every_bar_has_one_limit_and_a_script_that_is_there(bench: None, repository: Path) -> None:
    from bar_list import BARS

    for bar in BARS:
        assert (bar.least is not None) + (bar.most is not None) + bar.yes == 1, bar.what
        script = bar.how.split()[0]
        assert script == "cellseg-cli" or (repository / script).is_file(), bar.how


@pytest.mark.parametrize(
    ("limit", "found", "line"),
    [
        ({"least": 0.9}, 0.9, ("≥ 0.90", "0.90", "yes")),
        ({"least": 0.9}, 0.899, ("≥ 0.90", "0.90", "**no**")),
        ({"most": 20, "form": "{:.0f} MB"}, 21.0, ("≤ 20 MB", "21 MB", "**no**")),
        ({"yes": True}, 1.0, ("yes", "yes", "yes")),
        ({"yes": True}, 0.0, ("yes", "no", "**no**")),
        ({"most": 1, "note": lambda: "side 4 px"}, 0.0, ("≤ 1.00", "0.00 (side 4 px)", "yes")),
    ],
)
def test_a_bar_is_met_by_its_limit(
    bar: ModuleType, limit: dict[str, Any], found: float, line: tuple[str, ...]
) -> None:
    assert bar.Bar("a", "b", lambda: found, "c", **limit).line()[2:5] == line


def test_what_was_not_measured_is_neither_met_nor_missed(
    bar: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bar, "RESULTS", tmp_path)
    bar.load.cache_clear()
    (tmp_path / "there.json").write_text('{"rounds": [3, 1, 2], "other": null}')
    try:
        for read in (
            bar.value("gone", "a"),
            bar.value("there", "b"),
            bar.value("there", "other"),
        ):
            assert bar.Bar("a", "b", read, "c", least=1).line()[3:5] == ("not measured", "")
        assert bar.value("there", "rounds")() == 2
    finally:
        bar.load.cache_clear()
