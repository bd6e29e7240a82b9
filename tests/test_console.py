from __future__ import annotations

import io
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cellseg import console as shown
from cellseg.console import RunDisplay, failure_summary, pace_text, report_text, show_logs
from cellseg.errors import SlideError
from cellseg.runtime.batch import Outcome
from cellseg.runtime.jobs.options import Progress

STATE = Progress("tiles", 5, 9, 0, 2.0, 6.25, 1.5, 61.0, "infer", 0.934)
START = Progress("open", 0, 0, 0, 0.0, None, None, None, None, None)
RUN = {
    "status": "done",
    "input": {"path": "slide.svs", "width_px": 10, "height_px": 10, "mpp": None},
    "engine": {"name": "openvino", "precision": "int8", "device": "cpu", "threads": 2},
    "plan": {"tiles_total": 12, "tiles_skipped": 3},
    "wall_s": 61.2,
    "throughput_mpx_s": 7.25,
    "classes": {
        "background": {"pixels": 95, "area_mm2": None},
        "nucleus": {"pixels": 5, "area_mm2": None},
    },
    "cells": {"nucleus": 3},
    "outputs": {"classes.ome.tif": {"bytes": 1, "sha256": "0"}},
}


def plain_console(terminal: bool = False) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=200, soft_wrap=True), text


def test_unknown_numbers_are_left_out_of_the_pace() -> None:
    assert pace_text(START) == ""


def test_a_log_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 20.0, 20.0])
    monkeypatch.setattr(shown.time, "monotonic", lambda: next(clock))
    console, text = plain_console()
    with RunDisplay(console, "a.svs") as display:
        display(STATE)
        display(STATE)
    assert text.getvalue().splitlines() == [
        "a.svs: segmenting, 5/9 tiles, 6.2 MP/s, 1.50 mm²/s, 1:01 left, infer-bound 93 %"
    ]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (replace(STATE, phase="cells", tiles_done=3), "a.svs: telling cells apart, 3/9 regions"),
        (START, "a.svs: opening"),
    ],
)
def test_a_line_counts_what_is_done_now(
    monkeypatch: pytest.MonkeyPatch, state: Progress, line: str
) -> None:
    clock = iter([0.0, 20.0, 20.0])
    monkeypatch.setattr(shown.time, "monotonic", lambda: next(clock))
    console, text = plain_console()
    with RunDisplay(console, "a.svs") as display:
        display(state)
    assert text.getvalue().splitlines() == [line]


def test_a_terminal_gets_a_live_line() -> None:
    console, text = plain_console(terminal=True)
    with RunDisplay(console, "a.svs") as display:
        display(START)
        display(STATE)
    assert "infer-bound 93 %" in text.getvalue()


def test_logs_appear_once_however_often_they_are_asked_for() -> None:
    console, text = plain_console()
    show_logs(console, verbose=False)
    show_logs(console, verbose=False)
    logging.getLogger("cellseg.some.part").info("resuming: 3 tiles [done]")
    logging.getLogger("cellseg.some.part").debug("too much")
    logging.getLogger("cellseg.some.part").warning("odd")
    assert text.getvalue() == "resuming: 3 tiles [done]\nwarning: odd\n"


def test_the_report_says_what_was_found_and_where_it_is() -> None:
    text = report_text(Path("out/slide"), RUN)
    assert "done in 1:01, 7.2 MP/s, openvino int8, 9 of 12 tiles" in text
    assert "nucleus     5.0% of the image" in text
    assert "background" not in text
    assert "3 nucleus" in text
    assert str(Path("out/slide/classes.ome.tif")) in text
    assert str(Path("out/slide/run.json")) in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"plan": RUN["plan"] | {"tissue_fraction": 0.25}}, "20.0% of the tissue"),
        ({"roi": {"area_mm2": 1.0}}, "5.0% of the regions"),
    ],
)
def test_a_class_has_its_share_of_what_was_looked_at(changes: dict[str, Any], said: str) -> None:
    assert f"nucleus     {said}" in report_text(Path("out"), RUN | changes)


def test_long_names_of_classes_keep_the_columns_apart() -> None:
    classes = {**RUN["classes"], "infected red cell": {"pixels": 0, "area_mm2": None}}
    lines = report_text(Path("out"), RUN | {"classes": classes}).splitlines()
    assert lines[1].index("5.0%") == lines[2].index("0.0%") == lines[2].index("cell") + 6


def test_a_batch_ends_by_naming_what_failed() -> None:
    outcomes = [
        Outcome(Path("a.svs"), error=SlideError("damaged")),
        Outcome(Path("b.svs")),
    ]
    assert failure_summary(outcomes).splitlines() == ["1 of 2 inputs done", "  failed: a.svs"]
