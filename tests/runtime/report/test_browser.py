"""The page in a browser: drawn, quiet, alone, and no wider than a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cellseg.runtime.report.index import write_index
from cellseg.runtime.report.page import write_report
from tests.runtime.report.runs import finished_run

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make a report, one without cells, and the page of both."""
    place = tmp_path_factory.mktemp("pages")
    folders = [finished_run(place / "cells"), finished_run(place / "classes", cells=False)]
    found = [write_report(folder) for folder in folders]
    return {"cells": found[0], "classes": found[1], "index": write_index(folders, place / "i.html")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.parametrize("name", ["cells", "classes", "index"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_a_page_is_drawn_whole_and_alone(
    pages: dict[str, Path], browser: Any, name: str, width: int, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[name].as_uri())
    drawn = page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0)")
    wide = page.evaluate("document.documentElement.scrollWidth")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]
    assert drawn
    assert all(drawn)
    assert wide <= width
    brightness = sum(map(int, ground[4:-1].split(","))) / 3
    assert (brightness > 200) == (scheme == "light")


def test_a_click_shows_a_picture_alone_and_another_puts_it_back(
    pages: dict[str, Path], browser: Any
) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.goto(pages["cells"].as_uri())
    picture = page.locator(".zoom img").first
    small = picture.bounding_box()["width"]
    picture.click()
    assert picture.bounding_box() == {"x": 0, "y": 0, "width": 800, "height": 600}
    picture.click()
    assert picture.bounding_box()["width"] == small
    page.close()
