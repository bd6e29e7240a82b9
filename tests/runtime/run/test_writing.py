"""Files made from cells are written beside the others; what fails stops both."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cellseg.runtime.run.writing import write_outputs
from cellseg.runtime.store.labels import ArrayLabels
from cellseg.runtime.writers.finished import FinishedRun

Writer = Any


def output(
    name: str, needs: str, writer: Writer, *, shows_slide: bool = False, surveys: bool = False
) -> Any:
    return SimpleNamespace(
        file=name, needs=needs, shows_slide=shows_slide, surveys=surveys, load=lambda: writer
    )


@pytest.fixture
def run() -> FinishedRun:
    labels = ArrayLabels(np.arange(12, dtype=np.uint32).reshape(3, 4))
    job: Any = SimpleNamespace(view=SimpleNamespace(hw=labels.hw), class_names=["ground", "cell"])
    options: Any = None
    return FinishedRun(job, options, labels, labels)


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


def test_one_of_two_files_made_from_cells_ends_the_other_if_it_fails(
    tmp_path: Path, run: FinishedRun
) -> None:
    def endless(path: Path, run: FinishedRun) -> None:
        assert run.cells is not None
        while True:
            run.cells.read(0, 0, 1, 1)

    def failing(path: Path, _: FinishedRun) -> None:
        raise ValueError("no space")

    outputs = [output("labels", "cells", endless), output("cells", "cells", failing)]
    with pytest.raises(ValueError, match="no space"):
        write_outputs(tmp_path, run, outputs, at_once=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at_once", [False, True])
def test_the_slides_overview_is_read_once_and_beside_the_other_files(
    tmp_path: Path, run: FinishedRun, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    readers: list[str] = []

    def read(*_: object) -> Any:
        readers.append(threading.current_thread().name)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(FinishedRun, "_read_picture", read)
    outputs = [
        output("classes", "classes", lambda path, _: path.write_text("c")),
        output(
            "overlay",
            "classes",
            lambda path, run: path.write_text(str(run.picture_rows()(0, 1).shape)),
            shows_slide=True,
        ),
    ]
    write_outputs(tmp_path, run, outputs, at_once=at_once)
    assert (tmp_path / "overlay").read_text() == "(1, 1, 3)"
    assert [name == threading.main_thread().name for name in readers] == [not at_once]


def test_the_picture_is_drawn_while_the_writer_that_surveys_still_writes(
    tmp_path: Path, run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = threading.Event()

    def survey_first(path: Path, run: FinishedRun) -> None:
        run.begin_survey().see(0, 0, np.ones((3, 4), np.uint8))
        path.write_text("written")
        assert drawn.wait(10)

    def draw(path: Path, run: FinishedRun) -> None:
        path.write_text(str(run.survey.counts.tolist()))
        drawn.set()

    monkeypatch.setattr(FinishedRun, "_read_picture", lambda _: None)
    outputs = [
        output("classes", "classes", survey_first, surveys=True),
        output("overlay", "classes", draw, shows_slide=True),
    ]
    write_outputs(tmp_path, run, outputs, at_once=True)
    assert (tmp_path / "overlay").read_text() == "[0, 12]"


def test_nobody_waits_for_the_survey_of_a_writer_that_failed(
    tmp_path: Path, run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path, run: FinishedRun) -> None:
        run.begin_survey().see(0, 0, np.ones((3, 2), np.uint8))
        raise ValueError("no space")

    def draw(path: Path, run: FinishedRun) -> None:
        path.write_text(str(run.survey.counts.tolist()))

    monkeypatch.setattr(FinishedRun, "_read_picture", lambda _: None)
    outputs = [
        output("classes", "classes", failing, surveys=True),
        output("overlay", "classes", draw, shows_slide=True),
    ]
    with pytest.raises(ValueError, match="no space"):
        write_outputs(tmp_path, run, outputs, at_once=True)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_what_is_written_from_cells_alone(
    tmp_path: Path, run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def endless(path: Path, run: FinishedRun) -> None:
        assert run.cells is not None
        begun.set()
        while True:
            run.cells.read(0, 0, 1, 1)

    def interrupted(*_: object) -> None:
        begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr("cellseg.runtime.run.writing.as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_outputs(tmp_path, run, [output("labels", "cells", endless)], at_once=True)
    assert list(tmp_path.iterdir()) == []
