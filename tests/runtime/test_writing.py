"""Files made from cells are written beside the others; what fails stops both."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cellseg.runtime.finished import FinishedRun
from cellseg.runtime.labels import ArrayLabels
from cellseg.runtime.writing import write_outputs

Writer = Any


def output(name: str, needs: str, writer: Writer) -> Any:
    return SimpleNamespace(file=name, needs=needs, load=lambda: writer)


@pytest.fixture
def run() -> FinishedRun:
    labels = ArrayLabels(np.arange(12, dtype=np.uint32).reshape(3, 4))
    anything: Any = None
    return FinishedRun(anything, anything, labels, labels)


def write_first_cell(path: Path, run: FinishedRun) -> None:
    assert run.cells is not None
    path.write_text(str(run.cells.read(1, 1, 1, 1)[0, 0]))


@pytest.mark.parametrize("at_once", [False, True])
def test_every_file_is_written(tmp_path: Path, run: FinishedRun, at_once: bool) -> None:
    outputs = [
        output("classes", "classes", lambda path, _: path.write_text("c")),
        output("labels", "cells", write_first_cell),
    ]
    write_outputs(tmp_path, run, outputs, at_once=at_once)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"classes": "c", "labels": "5"}


def test_a_failure_of_one_writer_ends_the_other_and_leaves_no_file(
    tmp_path: Path, run: FinishedRun
) -> None:
    def endless(path: Path, run: FinishedRun) -> None:
        assert run.cells is not None
        path.write_text("begun")
        while True:
            run.cells.read(0, 0, 1, 1)

    def failing(path: Path, _: FinishedRun) -> None:
        raise ValueError("no space")

    outputs = [output("classes", "classes", failing), output("labels", "cells", endless)]
    with pytest.raises(ValueError, match="no space"):
        write_outputs(tmp_path, run, outputs, at_once=True)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_beside_the_others_is_raised(tmp_path: Path, run: FinishedRun) -> None:
    def failing(path: Path, _: FinishedRun) -> None:
        raise ValueError("no space")

    outputs = [
        output("classes", "classes", lambda path, _: path.write_text("c")),
        output("labels", "cells", failing),
    ]
    with pytest.raises(ValueError, match="no space"):
        write_outputs(tmp_path, run, outputs, at_once=True)
    assert [path.name for path in tmp_path.iterdir()] == ["classes"]
