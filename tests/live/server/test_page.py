"""The page in a real browser."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cellseg.live.counters import DropReason
from tests.live.server.client import TOKEN
from tests.live.server.fake_session import FakeSession, show_square
from tests.live.server.test_scan_layer import grown_scan

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from cellseg.live.painter import warm_up  # noqa: E402
from cellseg.live.server import LocalServer  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PHONE = {"width": 390, "height": 844}
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a browser with the painter compiled, which takes seconds the first time."""
    warm_up()
    playwright.expect.set_options(timeout=60_000)  # a busy machine's browser may take long
    with playwright.sync_playwright() as runner:
        chromium = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = chromium.new_context()
        yield context
        chromium.close()


@pytest.fixture
def page(browser: Any, server: LocalServer) -> Iterator[Any]:
    """Return the open page; whatever it complains of fails the test."""
    opened = browser.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda m: complaints.append(m.text) if "Security" in m.text else None)
    opened.goto(server.url)
    playwright.expect(opened.locator("#link")).to_have_text("running")
    yield opened
    opened.close()
    assert complaints == []


def green_at(page: Any) -> int:
    """Where the outlined cells begin: the first column with a green pixel, or -1."""
    found = page.evaluate(
        """() => {
            const canvas = document.getElementById("picture");
            const { width, height } = canvas;
            const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
            let first = -1;
            for (let i = 0; i < pixels.length; i += 4) {
                const x = (i / 4) % width;
                if (pixels[i + 1] > 140 && pixels[i] < 110 && (first < 0 || x < first)) first = x;
            }
            return first;
        }"""
    )
    return int(found)


def wait_for_frame(page: Any, frame_id: int) -> None:
    playwright.expect(page.locator("#picture")).to_have_attribute("data-frame", str(frame_id))


def shown(page: Any) -> dict[str, int]:
    return {name: int(page.text_content(f"#{name}")) for name in ("sent", "done", "dropped")}


def test_overlays_move_as_the_cells_do(page: Any, session: FakeSession) -> None:
    found = []
    for frame_id, x in enumerate((5, 25, 45)):
        show_square(session, x)
        wait_for_frame(page, frame_id)
        found.append(green_at(page))
    assert [abs(seen - x) <= 1 for seen, x in zip(found, (5, 25, 45), strict=True)] == [True] * 3


def test_the_newest_frame_is_shown_not_every_frame(page: Any, session: FakeSession) -> None:
    for index in range(60):
        show_square(session, index % 50)
    wait_for_frame(page, 59)
    assert abs(green_at(page) - 9) <= 1


def test_its_counters_are_the_sessions(page: Any, session: FakeSession) -> None:
    for _ in range(7):
        show_square(session, 5)
    for reason in (DropReason.OVERTAKEN, DropReason.OVERTAKEN, DropReason.BAD_FRAME):
        session.drop(reason)
    playwright.expect(page.locator("#sent")).to_have_text("10")
    assert shown(page) == {"sent": 10, "done": 7, "dropped": 3}
    assert page.text_content("#reasons") == "overtaken 2 · bad-frame 1"
    assert page.text_content("#p50") == "3.0"
    assert "7 summed over frames" in page.text_content("#cells")


def test_it_finds_the_way_back_to_a_server_that_was_started_again(
    page: Any, session: FakeSession, server: LocalServer
) -> None:
    show_square(session, 5)
    wait_for_frame(page, 0)
    server.stop()
    playwright.expect(page.locator("#link")).to_have_text("reconnecting")
    assert page.locator("#toggle").is_disabled()
    successor = FakeSession()
    with LocalServer(successor, port=server.port, token=TOKEN):
        playwright.expect(page.locator("#link")).to_have_text("running")
        for x in (5, 10, 30):
            show_square(successor, x)
        wait_for_frame(page, 2)
        assert abs(green_at(page) - 30) <= 1
        playwright.expect(page.locator("#done")).to_have_text("3")


def test_no_request_leaves_the_machine(
    browser: Any, session: FakeSession, server: LocalServer
) -> None:
    hosts: set[str] = set()
    opened = browser.new_page()
    opened.on("request", lambda request: hosts.add(request.url))
    opened.on("websocket", lambda socket: hosts.add(socket.url))
    opened.goto(server.url)
    show_square(session, 5)
    wait_for_frame(opened, 0)
    opened.click("text=Snapshot")
    opened.close()
    own = (f"{server.base_url}/", f"ws://127.0.0.1:{server.port}/", f"blob:{server.base_url}/")
    assert len(hosts) >= 5
    assert [url for url in hosts if not url.startswith(own)] == []


def test_stop_and_start_reach_the_session(page: Any, session: FakeSession) -> None:
    page.click("#toggle")
    playwright.expect(page.locator("#link")).to_have_text("paused")
    assert session.state == "paused"
    playwright.expect(page.locator("#toggle")).to_have_text("Start")
    page.click("#toggle")
    playwright.expect(page.locator("#link")).to_have_text("running")
    assert session.state == "running"


def test_a_snapshot_is_saved_as_it_is_shown(
    page: Any, session: FakeSession, tmp_path: Path
) -> None:
    show_square(session, 5)
    wait_for_frame(page, 0)
    page.click("[data-layer=classes]")
    with page.expect_download() as download:
        page.click("#snapshot")
    assert download.value.suggested_filename == "frame-0-classes.png"
    download.value.save_as(tmp_path / "seen.png")
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")


def test_layers_are_switched_while_no_frame_comes(page: Any, session: FakeSession) -> None:
    show_square(session, 5)
    wait_for_frame(page, 0)
    page.click("[data-layer=frame]")
    page.wait_for_function(
        "() => document.getElementById('picture').getContext('2d')"
        ".getImageData(10, 30, 1, 1).data[1] < 60"
    )
    assert green_at(page) == -1


def test_the_scan_is_offered_only_where_there_is_one(browser: Any) -> None:
    page, session = browser.new_page(), FakeSession()
    button = page.locator("[data-layer=scan]")
    width = "document.getElementById('picture').width"
    with LocalServer(session, port=0, token=TOKEN, scan=grown_scan()) as server:
        page.goto(server.url)
        show_square(session, 5)
        button.click()
        page.wait_for_function(f"() => {width} >= 60 && {width} < 64")
    successor = FakeSession()
    with LocalServer(successor, port=server.port, token=TOKEN):
        show_square(successor, 5)
        button.wait_for(state="hidden")
        page.wait_for_function(f"() => {width} === 64")
        assert button.is_hidden()
    page.close()


def test_an_ended_session_says_so(page: Any, session: FakeSession) -> None:
    show_square(session, 5)
    session.state = "closed"
    playwright.expect(page.locator("#link")).to_have_text("session ended")
    assert page.locator("#toggle").is_disabled()


def test_a_wrong_token_shows_no_page(browser: Any, server: LocalServer) -> None:
    opened = browser.new_page()
    answer = opened.goto(f"{server.base_url}/?token=wrong")
    assert answer.status == 403
    assert opened.locator("canvas").count() == 0
    opened.close()


def test_charts_are_drawn(page: Any, session: FakeSession) -> None:
    show_square(session, 5)
    wait_for_frame(page, 0)
    inked = """() => [...document.querySelectorAll("canvas.chart")].map((canvas) => {
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return data.some((value, at) => at % 4 === 1 && value > 150);
    })"""
    page.wait_for_function(f"() => ({inked})().every(Boolean)")
    drawn = page.evaluate(inked)
    assert len(drawn) > 0
    assert all(drawn)


def test_it_fits_a_phone(browser: Any, session: FakeSession, server: LocalServer) -> None:
    opened = browser.browser.new_page(viewport=PHONE, device_scale_factor=2, has_touch=True)
    opened.goto(server.url)
    show_square(session, 5)
    wait_for_frame(opened, 0)
    assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for selector in ("#picture", "#toggle", "#snapshot", "#fps", "#sent", "#chart-fps"):
        box = opened.locator(selector).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
    assert opened.locator("#toggle").bounding_box()["height"] >= 34  # a fingertip
    opened.close()


def test_a_browser_that_is_killed_takes_nothing_with_it(
    browser: Any, session: FakeSession, server: LocalServer
) -> None:
    before = _browsers()
    launched = browser.browser.browser_type.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    opened = launched.new_page()
    opened.goto(server.url)
    show_square(session, 5)
    wait_for_frame(opened, 0)
    listening, done = session.snapshot().state, session.done
    for process in _browsers() - before:
        with contextlib.suppress(psutil.NoSuchProcess):  # the first takes the others with it
            process.kill()
    for _ in range(20):
        show_square(session, 5)
    assert session.done == done + 20
    while _has_page(server):
        time.sleep(0.02)
    assert session.state == listening
    launched.close()


def _browsers() -> set[psutil.Process]:
    """Return the browsers' processes that these tests started."""
    return {p for p in psutil.Process().children(recursive=True) if "chrom" in p.name()}


def _has_page(server: LocalServer) -> bool:
    return any(
        c.status == "ESTABLISHED" and c.laddr and c.laddr.port == server.port
        for c in psutil.Process().net_connections()
    )
