"""The mosaic of a scan, on the page of its session."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest

from cellseg.live.mosaic.preview import MosaicPreview
from cellseg.live.server import LocalServer
from tests.live.server.client import TOKEN, ask
from tests.live.server.fake_session import PALETTE, FakeSession, show_square

GREY = np.full((40, 30, 3), 90, np.uint8)


def grown() -> MosaicPreview:
    """Return two fields side by side, with a square of cells in the second."""
    preview = MosaicPreview(PALETTE)
    classes = np.zeros((40, 30), np.uint8)
    classes[10:20, 10:20] = 1
    preview.show_frame(GREY, (0, 0))
    preview.show_frame(GREY, (0, 30))
    preview.show_classes(classes, (0, 30))
    return preview


def test_a_snapshot_of_the_scan_shows_its_classes() -> None:
    session = FakeSession()
    with LocalServer(session, port=0, token=TOKEN, scan=grown()) as server:
        show_square(session, 5)
        assert ask(server, "/api/state").json["has_scan"] is True
        answer = ask(server, "/api/snapshot.png?layer=scan")
    found = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    assert found[10, 40].tolist() == [0, 255, 0]
    assert found[5, 5].tolist() == [90, 90, 90]


def test_without_a_scan_there_is_no_such_layer(server: LocalServer, session: FakeSession) -> None:
    show_square(session, 5)
    answer = ask(server, "/api/snapshot.png?layer=scan")
    assert answer.status == 400
    assert "no scan" in json.loads(answer.body)["error"]


def test_the_page_offers_the_scan_only_where_there_is_one() -> None:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from tests.live.server.test_page import CHROMIUM

    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    width = "() => document.getElementById('picture').width"
    with sync.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page: Any = browser.new_page()
        session = FakeSession()
        button = page.locator("[data-layer=scan]")
        with LocalServer(session, port=0, token=TOKEN, scan=grown()) as server:
            page.goto(server.url)
            show_square(session, 5)
            button.click(timeout=30_000)
            page.wait_for_function(f"({width})() < 64 && ({width})() >= 60", timeout=30_000)
            port = server.port
        successor = FakeSession()
        with LocalServer(successor, port=port, token=TOKEN):
            show_square(successor, 5)
            sync.expect(button).to_be_hidden(timeout=30_000)
            page.wait_for_function(f"({width})() === 64", timeout=30_000)
        browser.close()
