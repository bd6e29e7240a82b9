"""The mosaic of a scan, on the page of its session."""

from __future__ import annotations

import json

import cv2
import numpy as np

from cellseg.live.mosaic.preview import MosaicPreview
from cellseg.live.server import LocalServer
from tests.live.server.client import TOKEN, ask
from tests.live.server.fake_session import PALETTE, FakeSession, show_square

GREY = np.full((40, 30, 3), 90, np.uint8)


def grown_scan() -> MosaicPreview:
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
    with LocalServer(session, port=0, token=TOKEN, scan=grown_scan()) as server:
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
