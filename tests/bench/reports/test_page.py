"""The report page in a real browser: plots are drawn, and no request leaves the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cellseg.bench.reports.page import report_page
from tests.bench.made_reports import made_report, made_row


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on the path")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def shown(browser: Any, folder: Path, html: str, width: int) -> tuple[Any, list[str]]:
    path = folder / "bench.html"
    path.write_text(html, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri(), wait_until="networkidle")
    return page, asked


@pytest.mark.parametrize("width", [390, 1200])
def test_plots_are_drawn_and_nothing_is_loaded(browser: Any, tmp_path: Path, width: int) -> None:
    page, asked = shown(browser, tmp_path, report_page(made_report()), width)
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert len([url for url in asked if url.startswith("file:")]) == 1
    boxes = page.eval_on_selector_all(
        "svg", "all => all.map(s => s.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) == 7  # Pareto, roofline, four distributions, stage bars
    assert all(0 < box["width"] <= width and box["height"] > 60 for box in boxes)
    marks = page.eval_on_selector_all(
        "svg polyline.line, svg circle, svg rect[class^=c]",
        "all => all.map(m => [m.tagName, m.getBBox().width, getComputedStyle(m).stroke"
        " + getComputedStyle(m).fill])",
    )
    kinds = [tag for tag, _, _ in marks]
    assert (kinds.count("polyline"), kinds.count("circle")) == (8, 2)
    assert all(size > 0 for tag, size, _ in marks if tag != "rect")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_a_row_that_died_says_so_on_the_page(browser: Any, tmp_path: Path) -> None:
    dead = made_row(engine="litert").model_copy(
        update={"status": "failed", "failure": "ended by SIGSEGV: <b>boom</b>", "rounds": (),
                "latency_ms": None, "throughput_mpx_s": None, "roofline": None}
    )  # fmt: skip
    page, _ = shown(browser, tmp_path, report_page(made_report(made_row(), dead)), 800)
    assert "failed: ended by SIGSEGV: <b>boom</b>" in page.inner_text("#tile-single")
    page.close()


def test_what_cannot_run_here_is_named_once_and_takes_no_line(browser: Any, tmp_path: Path) -> None:
    absent = [
        made_row(engine="tensorrt", precision=precision).model_copy(
            update={"status": "unavailable", "failure": "no GPU", "rounds": (),
                    "latency_ms": None, "throughput_mpx_s": None, "roofline": None}
        )
        for precision in ("fp16", "int8")
    ]  # fmt: skip
    page, _ = shown(browser, tmp_path, report_page(made_report(made_row(), *absent)), 800)
    text = page.inner_text("#tile-single")
    assert "Not on this machine: tensorrt fp16, tensorrt int8 (no GPU)" in text
    assert page.locator("#tile-single tr").count() == 2
    page.close()


def test_a_scenario_that_was_never_reached_says_so(browser: Any, tmp_path: Path) -> None:
    later = made_row("slide").model_copy(
        update={"status": "interrupted", "rounds": (), "latency_ms": None,
                "throughput_mpx_s": None, "roofline": None}
    )  # fmt: skip
    report = made_report(made_row(), later, status="interrupted")
    page, _ = shown(browser, tmp_path, report_page(report), 800)
    assert page.inner_text("#slide").endswith("Not measured.")
    page.close()


@pytest.mark.parametrize("name", ["results/peers.html", "history/index.html"])
def test_kept_pages_fit_a_phone_and_load_nothing(
    browser: Any, tmp_path: Path, repository: Path, name: str
) -> None:
    html = (repository / "bench" / name).read_text(encoding="utf-8")
    page, asked = shown(browser, tmp_path, html, 390)
    assert len([url for url in asked if not url.startswith("data:")]) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    drawn = page.eval_on_selector_all(
        "svg rect[class^=c], svg circle", "all => all.map(m => m.getBBox().width)"
    )
    assert sum(width > 0 for width in drawn) >= 5
    page.close()


def test_an_invalid_run_is_marked_at_the_top(browser: Any, tmp_path: Path) -> None:
    from cellseg.bench.record import MachineState

    row = made_row(state=MachineState(slept_s=30.0))
    page, _ = shown(browser, tmp_path, report_page(made_report(row)), 800)
    assert "the machine slept for 150 s" in page.inner_text(".verdict.bad")
    page.close()
