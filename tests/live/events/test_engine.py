"""Rules over results: when they fire, and who is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.client import BadStatusLine, InvalidURL
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cellseg.errors import RuleError
from cellseg.live.events.engine import EventEngine, LiveEvent
from cellseg.live.events.mda import MdaQueue
from cellseg.live.events.rules import read_rules, rules_from
from cellseg.live.events.webhook import Webhook

NAMES = ("healthy", "infected")


def engine_for(*rules: dict[str, Any]) -> tuple[EventEngine, list[LiveEvent]]:
    engine = EventEngine(rules_from({"rule": list(rules)}), NAMES, mpp=0.5)
    told: list[LiveEvent] = []
    engine.on_event(told.append)
    return engine, told


def test_a_rule_of_a_frame_fires_with_every_frame_for_which_it_holds(result_of: Any) -> None:
    engine, told = engine_for({"name": "ill", "when": 'count("infected") > 1'})
    for number, kinds in enumerate([(2, 2), (1, 2), (2, 2, 2)]):
        engine.see(result_of(*[(kind, 1, 0, 0) for kind in kinds], frame_id=number))
    assert [event.result.meta.frame_id for event in told] == [0, 2]
    assert told[1].values == {"count:infected": 3}
    assert engine.fired == {"ill": 2}


def test_a_rule_of_cells_names_the_cells_and_where_they_lie(result_of: Any) -> None:
    engine, told = engine_for({"when": 'area_um2 > 300 and class == "infected"'})
    engine.see(result_of((2, 400, 10, 20), (1, 500, 0, 0), (2, 100, 0, 0)))
    (event,) = told
    assert event.cell_count == 1
    assert event.cells[0].xy_um == (105.0, 210.0)
    assert event.cells[0].class_name == "infected"


@pytest.mark.parametrize(
    ("when", "names", "mpp", "why"),
    [
        ("area_um2 > 300", NAMES, None, "size of a pixel"),
        ("cells > 5", (), 0.5, "tells them apart"),
        ("total >= 5", (), 0.5, "tells them apart"),
        ("area_px > 5 or focus < 3", (), 0.5, "tells them apart"),
    ],
)
def test_a_rule_that_could_never_fire_is_refused(
    when: str, names: tuple[str, ...], mpp: float | None, why: str
) -> None:
    rules = rules_from({"rule": [{"when": when}]})
    with pytest.raises(RuleError, match=why):
        EventEngine(rules, names, mpp)


def test_what_is_not_known_of_a_frame_is_null_in_an_event(result_of: Any) -> None:
    engine, told = engine_for({"when": "x_um != 3"})
    engine.see(result_of(stage=None))
    assert json.loads(json.dumps(told[0].as_dict(), allow_nan=False))["values"] == {"x_um": None}


def test_a_number_of_cells_is_reached_once(result_of: Any) -> None:
    engine, told = engine_for({"when": "total >= 3"})
    for number in range(4):
        engine.see(result_of((1, 1, 0, 0), (2, 1, 0, 0), frame_id=number))
    assert [event.result.meta.frame_id for event in told] == [1]


def test_focus_below_a_limit_fires(result_of: Any) -> None:
    engine, told = engine_for({"when": "focus < 10", "once": True})
    for focus in (50, 5, 4, 60, 3):
        engine.see(result_of(focus=float(focus)))
    assert [event.result.focus for event in told] == [5, 3]


class Hook(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    got: list[Any]

    def do_POST(self) -> None:
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Hook)
    server.got = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_gets_the_event_as_json(result_of: Any, hook: HTTPServer) -> None:
    url = f"http://127.0.0.1:{hook.server_port}/x"
    engine, _ = engine_for({"name": "any", "when": "cells > 0", "webhook": url})
    engine.see(result_of((1, 20.0, 1, 2)))
    engine.close()
    assert [(event["rule"], event["values"]) for event in hook.got] == [("any", {"cells": 1})]


def test_a_dead_webhook_stops_nothing(result_of: Any, caplog: pytest.LogCaptureFixture) -> None:
    engine, told = engine_for({"when": "cells > 0", "webhook": "http://127.0.0.1:9/x"})
    for _ in range(3):
        engine.see(result_of((1, 20.0, 1, 2)))
    engine.close()
    assert len(told) == 3
    assert caplog.text.count("webhook http://127.0.0.1:9/x") == 1


def test_an_answer_that_is_no_http_ends_no_other_webhook(
    result_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([BadStatusLine("garbage"), InvalidURL("a space")])

    def urlopen(*_: Any, **__: Any) -> Any:
        error = next(answers, None)
        if error is not None:
            raise error
        return nullcontext()

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    hooks = Webhook()
    for _ in range(3):
        hooks.post("http://127.0.0.1/x", {})
    hooks.close()
    assert (hooks.sent, hooks.failed) == (1, 2)


def test_cells_to_image_again_become_an_acquisition(result_of: Any) -> None:
    pytest.importorskip("useq")
    engine, _ = engine_for({"name": "again", "when": "area_um2 > 300", "reimage": True})
    again = MdaQueue(exposure=200.0)
    engine.on_event(again.add)
    engine.see(result_of((2, 400, 10, 20), (1, 500, 0, 0), (2, 100, 0, 0)))
    again.close()
    events = list(again)
    assert [(e.x_pos, e.y_pos, e.z_pos, e.exposure) for e in events] == [
        (105.0, 210.0, 3.0, 200.0),
        (100.0, 200.0, 3.0, 200.0),
    ]
    assert events[0].metadata == {"rule": "again"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[[rule]]\nwhenn = 'cells > 1'\n", "whenn", "when"),
        ("[[rule]]\nname = 'a'\n", "without 'when'", None),
        ("[[rule]]\nwhen = 'cels > 1'\n", "cels", "cells"),
        ("[[rule]]\nwhen = 3\n", "must be a str", None),
        ("[[rule]]\nwhen = 'cells > 1'\nwebhook = 'ftp://x'\n", "http address", None),
        ("[[rule]]\nwhen = 'cells > 1'\nwebhook = 'http://[x'\n", "http address", None),
        ("[[rule]]\nwhen = 'cells > 1'\nwebhook = 'http://x/a b'\n", "http address", "%20"),
        ("[rule]\nwhen = 'cells > 1'\n", "at least one", "two brackets"),
        ("[[rule]\n", "must be TOML", None),
        (None, "must be there", None),
    ],
)
def test_files_that_are_no_rules_are_refused(
    tmp_path: Path, text: str | None, message: str, hint: Any
) -> None:
    path = tmp_path / "rules.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RuleError, match="Received") as caught:
        read_rules(path)
    assert message in str(caught.value)
    assert hint is None or hint in str(caught.value.hint)


def test_a_class_that_the_model_does_not_tell_is_refused() -> None:
    with pytest.raises(RuleError, match="infectd") as caught:
        engine_for({"when": 'count("infectd") > 5'})
    assert "infected" in str(caught.value.hint)
