"""``cellseg-cli evaluate --instances``: label images in, tables out."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cellseg.cli import app


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two images with four true cells each; in the second one cell is missed."""
    for image, missed in (("a", 0), ("b", 1)):
        truth = np.zeros((20, 20), np.uint16)
        for index, (y, x) in enumerate(((1, 1), (1, 11), (11, 1), (11, 11)), start=1):
            truth[y : y + 6, x : x + 6] = index
        for name, labels in (("truth", truth), ("found", np.where(truth > missed, truth, 0))):
            (tmp_path / name).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name / f"{image}.png"), labels)
    return tmp_path / "found", tmp_path / "truth"


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_two_folders_give_tables_and_files(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found, truth = folders
    code, text, _ = run("--instances", "--pred", found, "--truth", truth, "-o", tmp_path / "o")
    assert code == 0
    assert "| images | 2      | 0.875 (" in text
    assert "12.5 % (0.0–25.0)" in text
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        "per-image.csv", "summary.json",
    ]  # fmt: skip


def test_json_is_the_summary_alone(folders: tuple[Path, Path]) -> None:
    found, truth = folders
    code, text, _ = run("--pred", found, "--truth", truth, "--json", "--bootstrap", 0)
    summary = json.loads(text)["sources"]["images"]
    assert code == 0
    assert (summary["objects_found"], summary["objects_true"]) == (7, 8)
    assert summary["ap"] == {"value": 0.875, "low": None, "high": None}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--instances",), "evaluate takes a RECIPE, or --pred with --truth"),
        (("--pred", "x"), "come in pairs"),
        (("--pred", "nowhere", "--truth", "nowhere"), "no folder nowhere"),
        (("nuclei",), "no --data"),
    ],
)
def test_what_is_missing_is_said_with_an_example(words: tuple[str, ...], said: str) -> None:
    code, _, errors = run(*words)
    assert code == 1
    assert said in errors


@pytest.mark.parametrize("option", [("nuclei",), ("--model", "x"), ("--tiled",), ("--cam",)])
def test_what_folders_do_not_take_is_refused(
    folders: tuple[Path, Path], option: tuple[str, ...]
) -> None:
    code, _, errors = run(*option, "--pred", folders[0], "--truth", folders[1])
    assert code == 1
    assert "compare files. Received:" in errors


@pytest.mark.parametrize("scored", [(), ("--instances",)])
@pytest.mark.parametrize("option", ["--tiled", "--cam"])
def test_what_cells_of_a_bundle_do_not_take_is_refused(
    scored: tuple[str, ...], option: str, tmp_path: Path
) -> None:
    code, _, errors = run("nuclei", "--data", tmp_path, *scored, option)
    assert code == 1
    assert f"scored by a bundle alone. Received: {option}" in errors


def test_a_split_that_there_is_not_is_named(tmp_path: Path) -> None:
    code, _, errors = run("nuclei", "--data", tmp_path, "--split", "tests")
    assert code == 1
    assert "--split must be train, valid or test. Received: tests" in errors


def test_a_model_that_nobody_named_is_said(tmp_path: Path) -> None:
    code, _, errors = run("nuclei", "--data", tmp_path)
    assert code == 1  # no data
    assert "model: the shipped nuclei; --model names another" in errors
