"""What the documents say is tried: programs run, commands parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cellseg.cli import app
from cellseg.runtime.bundles.bundle import shipped_models

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
needs_model = pytest.mark.skipif(
    "nuclei" not in shipped_models(), reason="the nuclei model is not in cellseg/models"
)


def blocks(path: Path, language: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Return every cellseg-cli command in a console block, without the program's name."""
    lines = [
        line
        for path in DOCUMENTS
        for block in blocks(path, "console")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    words = [shlex.split(line, comments=True) for line in lines]
    return [each[1:] for each in words if each and each[0].endswith("cellseg-cli")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (path.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_of_the_documents_exist_with_their_options(command: list[str]) -> None:
    assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0


def test_the_architecture_names_modules_that_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    parts = "|".join(sorted(path.name for path in (ROOT / "cellseg").iterdir() if path.is_dir()))
    named = set(re.findall(rf"`((?:{parts})\.[a-z_.]+)`", text))
    assert len(named) > 50
    for name in named:
        path = ROOT.joinpath("cellseg", *name.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_the_documents_show_commands() -> None:
    assert len(commands()) >= 4


@needs_model
@pytest.mark.parametrize("program", blocks(ROOT / "README.md", "python"))
def test_programs_of_the_readme_run(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "examples" / "cmu-1-small-region.svs", tmp_path / "slide.svs")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"rgb_array": np.zeros((96, 128, 3), np.uint8)}
    exec(compile(program, "README.md", "exec"), names)
    assert names["found"].classes.shape == (96, 128)
    assert names["corner"].shape == (512, 512)


@needs_model
def test_the_example_finds_nuclei_in_the_demo_slide() -> None:
    example = ROOT / "examples" / "segment_array.py"
    answer = subprocess.run(
        [sys.executable, str(example)], capture_output=True, text=True, check=True
    )
    first, second = answer.stdout.splitlines()
    assert first.startswith("512 x 512 px: ")
    assert int(second.split()[0]) > 10
