"""`make seeds` runs five recipes that are there, on data that are there, and says what is not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cellseg.train.recipes.recipe import load_recipe


@pytest.fixture
def seeds(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "bench")
    import seeds as module

    monkeypatch.setattr(module, "RESULTS", tmp_path / "seeds.json")
    return module


def asked(folder: Path, **changes: Any) -> argparse.Namespace:
    given = {"data": folder, "work": folder / "out", "smears": 1, "full": False}
    return argparse.Namespace(**(given | {"epochs": None, "steps": None} | changes))


def test_data_that_are_not_there_are_named_and_passed_over(
    seeds: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in seeds.SEEDS:
        seeds.keep(seeds.run(seed, asked(tmp_path)))
    assert "skin-cancer: skipped: dermoscopy_large is not in" in capsys.readouterr().out
    kept = json.loads(seeds.RESULTS.read_text())
    assert list(kept) == ["000", "001", "002", "003", "004"]
    lines = seeds.table(list(kept.values())).splitlines()
    assert len(lines) == 2 + 5
    assert "skipped, not there: dsb2018_nuclei" in lines[3]
    assert {line.count("|") for line in lines} == {11}


def test_a_seed_that_is_skipped_keeps_what_was_measured(seeds: ModuleType, tmp_path: Path) -> None:
    seeds.keep({"seed": "001", "recipe": "deepcell", "test_dice": 0.8})
    seeds.keep(seeds.run(seeds.SEEDS[1], asked(tmp_path)))
    assert json.loads(seeds.RESULTS.read_text())["001"]["test_dice"] == 0.8


def test_a_seed_goes_from_data_to_pictures(
    seeds: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[list[str]] = []
    monkeypatch.setattr(seeds, "cli", lambda *words: lines.append([str(word) for word in words]))
    monkeypatch.setattr(seeds, "measured", lambda *what: {})
    (tmp_path / "wbc_tecom/test/images").mkdir(parents=True)
    (tmp_path / "wbc_tecom/test/images/1.png").touch()
    seeds.run(seeds.SEEDS[2], asked(tmp_path, steps=3))
    assert [line[0] for line in lines] == ["train", "evaluate", "export", "infer"]
    assert "--set=fit.steps_per_epoch=3" in lines[0]
    assert lines[3][1] == str(tmp_path / "wbc_tecom/test/images/1.png")


def test_every_seed_has_a_recipe_whose_sources_are_what_it_needs_or_makes(
    seeds: ModuleType,
) -> None:
    for seed in seeds.SEEDS:
        recipe = load_recipe(seed.recipe)
        assert {source.path for source in recipe.sources} <= {*seed.needs, *seed.made}
        assert recipe.fit_hw is not None
