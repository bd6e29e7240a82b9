"""The history of ratios says which commit moved one, and is drawn."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def quick(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "bench")
    import quick as module

    return module


def entry(value: float, commit: str | None = None, machine: str = "here") -> dict[str, Any]:
    ratio = {"value": value, "low": value * 0.98, "high": value * 1.02}
    return {
        "commit": commit, "date": "2026-01-01T00:00:00+00:00", "machine": machine,
        "ratios": {"int8_to_fp32": ratio},
    }  # fmt: skip


def git(folder: Path, *words: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(folder), *name, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_that_moved_a_ratio_is_named(
    quick: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    commits = []
    for words in ("good", "slows int8 down"):
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", words)
        commits.append(git(tmp_path, "rev-parse", "HEAD"))
    monkeypatch.setattr(quick, "HERE", tmp_path)
    (text,) = quick.moves([entry(2.0, commits[0]), entry(1.5, commits[1])])
    assert text.startswith("int8_to_fp32 moved by -25% (2.00 to 1.50): ")
    assert text.endswith("slows int8 down")


def test_a_move_without_a_commit_is_laid_on_the_machine(quick: ModuleType) -> None:
    (text,) = quick.moves([entry(2.0, "a" * 40), entry(1.5, "a" * 40)])
    assert "the machine or its libraries" in text


def test_noise_and_other_machines_are_no_move(quick: ModuleType) -> None:
    assert quick.moves([entry(2.0), entry(2.05)]) == []
    assert quick.moves([entry(2.0), entry(1.0, machine="there"), entry(2.0)]) == []


def test_a_disturbed_entry_is_compared_with_nothing(quick: ModuleType) -> None:
    busy = entry(1.0) | {"disturbed": ["other programs used 91% of the cores"]}
    assert quick.moves([entry(2.0), busy, entry(2.0)]) == []
    assert quick.said_of_last([entry(2.0), busy]) == (
        "disturbed, measure again: other programs used 91% of the cores"
    )
    assert quick.said_of_last([entry(2.0), busy, entry(2.0)]) == "nothing moved"


def test_the_last_entry_is_held_against_the_quiet_one_before(quick: ModuleType) -> None:
    busy = entry(1.0) | {"disturbed": ["the machine slept for 9 s"]}
    assert "moved by -25%" in quick.said_of_last([entry(2.0), busy, entry(1.5)])


def test_a_ratio_of_turns_has_an_interval_that_holds_it(quick: ModuleType) -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        speed = rng.uniform(1, 3, 8)  # the machine's mood, the same for both
        found = quick.ratio_of(2 * speed * rng.normal(1, 0.01, 8), speed)
        hits += found.low < 2 < found.high
        assert found.high / found.low < 1.07
    assert 88 <= hits <= 100


def test_the_history_becomes_a_table_and_plots(quick: ModuleType, tmp_path: Path) -> None:
    quick.write_pages([entry(2.0), entry(1.5), entry(3.0, machine="there")], tmp_path)
    assert "| 2026-01-01 |  | there | 3 (2.94 to 3.06) |" in (tmp_path / "README.md").read_text()
    page = (tmp_path / "index.html").read_text()
    assert page.count("<circle") == 3
    assert "moved by -25%" in page
