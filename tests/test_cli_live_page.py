"""``cellseg-cli live --page``: when there is a page, where, and that it shows the run."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import urlopen

import cv2
import pytest
from typer.testing import CliRunner, Result

from cellseg.cli import app
from cellseg.commands import live_page
from tests.bundles import make_bundle
from tests.fakes import nuclei_picture

pytest.importorskip("aiohttp", reason="the live extra is not installed")

MODEL = ("--model", "tiny.cellseg", "--engine", "onnxruntime", "--precision", "fp32")


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with slide.png and tiny.cellseg in it."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite(str(tmp_path / "slide.png"), nuclei_picture(64, 128))
    make_bundle(tmp_path / "tiny.cellseg")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def live(*args: str) -> Result:
    words = ["live", "slide:slide.png", "--frame-size", "64", "--json", *args, *MODEL]
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


def page_lines(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("page: ")]


def test_there_is_a_page_even_without_a_dashboard() -> None:
    result = live("--headless", "--page", "--port", "0")
    assert result.exit_code == 0
    (line,) = page_lines(result)
    assert line.startswith("page: http://127.0.0.1:")
    assert "token=" in line
    assert len(result.stdout.splitlines()) == 1  # JSON alone


@pytest.mark.parametrize("options", [("--headless",), ("--no-page",), ("--headless", "--no-page")])
def test_there_is_none_where_none_is_wanted(options: tuple[str, ...]) -> None:
    result = live(*options)
    assert result.exit_code == 0
    assert page_lines(result) == []


def test_a_named_port_that_is_taken_is_an_error(taken_port: int) -> None:
    result = live("--headless", "--page", "--port", str(taken_port))
    assert result.exit_code == 1
    assert f"port={taken_port}" in result.stderr
    assert "--port" in result.stderr


def test_the_usual_port_gives_way_to_a_free_one(
    taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_page, "PORT", taken_port)
    (line,) = page_lines(live("--headless", "--page"))
    assert f":{taken_port}/" not in line


@pytest.mark.parametrize(("options", "code"), [(("--page",), 1), ((), 0)])
def test_without_aiohttp_only_a_page_that_was_asked_for_is_an_error(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: int
) -> None:
    for name in [each for each in sys.modules if each.startswith("cellseg.live.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    result = live("--port", "0", *options)
    assert result.exit_code == code
    assert "pip install 'cellseg[live]'" in result.stderr


def test_the_pages_counters_are_those_of_the_closing_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked while the run goes on: each answer adds up, and never goes beyond the last line."""
    states: list[dict[str, Any]] = []
    started = live_page._started

    def watched(*args: Any, **options: Any) -> Any:
        server = started(*args, **options)
        url = server.url.replace("/?", "/api/state?")

        def ask() -> None:
            while not states or states[-1]["done"] < 2:
                with urlopen(url, timeout=30) as got:
                    states.append(json.load(got))

        Thread(target=ask, daemon=True).start()
        return server

    monkeypatch.setattr(live_page, "_started", watched)
    result = live("--headless", "--page", "--port", "0", "--frames", "12", "--rate", "20")
    last = json.loads(result.stdout)
    assert states
    assert states[-1]["done"] >= 2
    assert all(state["done"] <= last["done"] for state in states)
    assert last["sent"] == last["done"] + last["dropped"] == 12
