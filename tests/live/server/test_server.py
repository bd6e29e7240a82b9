from __future__ import annotations

import json
import os
import stat
import struct
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cellseg.errors import CellsegError
from cellseg.live.counters import DropReason
from cellseg.live.painter import paint_result
from cellseg.live.server import LocalServer, load_token
from tests.live.server.client import TOKEN, ask, png
from tests.live.server.fake_session import FakeSession, show_square

# --- who may ask ---


@pytest.mark.parametrize("path", ["/", "/api/state", "/metrics", "/openapi.json", "/ws"])
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], "ü"])
def test_without_the_token_there_is_nothing(
    server: LocalServer, path: str, token: str | None
) -> None:
    if token == "ü":
        answer = ask(server, f"{path}?token=%C3%BC", token=None)
    else:
        answer = ask(server, path, token=token)
    assert answer.status == 403
    assert "token" in answer.json["error"]
    assert answer.json["hint"]


def test_a_token_of_any_bytes_is_a_wrong_one(server: LocalServer) -> None:
    assert ask(server, "/api/state", token=None, Authorization="Bearer \xff").status == 403


def test_an_empty_token_is_none() -> None:
    with pytest.raises(CellsegError, match="must not be empty"):
        LocalServer(token="")


def test_actions_need_the_token_too(server: LocalServer, session: FakeSession) -> None:
    assert ask(server, "/api/stop", b"", token="wrong").status == 403
    assert session.state == "running"
    assert ask(server, "/segment", png(np.zeros((8, 8), np.uint8)), token="wrong").status == 403


def test_the_token_may_stand_in_the_address(server: LocalServer) -> None:
    assert ask(server, f"/?token={TOKEN}", token=None).status == 200


def test_health_needs_no_token_and_tells_no_more_than_that(server: LocalServer) -> None:
    assert ask(server, "/health", token=None).json == {"status": "ok", "session": "running"}


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Host", "evil.example"),
        ("Host", "evil.example:80"),
        ("Host", "127.0.0.1.evil.example"),
        ("Host", "["),
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://["),
    ],
)
def test_pages_of_strangers_are_refused_even_with_the_token(
    server: LocalServer, header: str, value: str
) -> None:
    assert ask(server, "/api/state", **{header: value}).status == 403


def test_the_server_listens_at_this_machine_only(server: LocalServer) -> None:
    import psutil

    mine = [c for c in psutil.Process().net_connections() if c.status == "LISTEN"]
    assert {c.laddr.ip for c in mine if c.laddr.port == server.port} == {"127.0.0.1"}


def test_a_strict_policy_goes_with_every_answer(server: LocalServer) -> None:
    for path in ("/", "/page.js", "/nothing", "/api/state"):
        headers = ask(server, path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_server_that_was_stopped_says_that_it_does_not_start_again() -> None:
    server = LocalServer(FakeSession(), port=0, token=TOKEN)
    with server, pytest.raises(CellsegError, match="started once"):
        server.start()
    with pytest.raises(CellsegError, match="started once"):
        server.start()


def test_a_port_that_was_taken_may_be_tried_again(server: LocalServer) -> None:
    other = LocalServer(FakeSession(), port=server.port, token=TOKEN)
    with pytest.raises(CellsegError, match="free port"):
        other.start()
    server.stop()
    with other:
        assert ask(other, "/health").status == 200


def test_a_taken_port_is_a_clear_error(server: LocalServer) -> None:
    with pytest.raises(CellsegError, match=f"port={server.port}") as caught:
        LocalServer(None, port=server.port, token=TOKEN).start()
    assert "--port" in str(caught.value.hint)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(CellsegError, match=f"port={port}"):
        LocalServer(None, port=port, token=TOKEN)


# --- the token ---


def test_the_token_is_the_same_every_time_and_only_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path / "new"))
    token = load_token()
    assert len(token) >= 32
    assert load_token() == token
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "new" / "page-token").stat().st_mode) == 0o600


def test_a_damaged_token_file_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLSEG_CACHE", str(tmp_path))
    (tmp_path / "page-token").write_text("")
    assert len(load_token()) >= 32


def test_a_token_of_the_environment_is_taken_and_a_short_one_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELLSEG_TOKEN", "x" * 20)
    assert load_token() == "x" * 20
    monkeypatch.setenv("CELLSEG_TOKEN", "short")
    with pytest.raises(CellsegError, match="of 5 characters"):
        load_token()


# --- the session ---


def test_the_state_is_the_sessions(server: LocalServer, session: FakeSession) -> None:
    show_square(session, 5)
    session.drop()
    state = ask(server, "/api/state").json
    assert state == json.loads(json.dumps(session.snapshot().as_dict())) | {"has_scan": False}
    assert (state["sent"], state["done"], state["dropped"]) == (2, 1, 1)


def test_stop_and_start_reach_the_session(server: LocalServer, session: FakeSession) -> None:
    assert ask(server, "/api/stop", b"").json["state"] == "paused"
    assert session.state == "paused"
    assert ask(server, "/api/start", b"").json["state"] == "running"
    assert ask(server, "/api/start").status == 405


@pytest.mark.parametrize("layer", ["overlay", "frame", "classes"])
def test_a_snapshot_is_the_newest_result_without_loss(
    server: LocalServer, session: FakeSession, layer: Any
) -> None:
    show_square(session, 5)
    answer = ask(server, f"/api/snapshot.png?layer={layer}")
    assert session.last is not None
    expected = paint_result(session.last, session.snapshot().palette, layer)
    seen = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(seen[..., ::-1], expected)
    assert f"frame-0-{layer}.png" in answer.headers["Content-Disposition"]


def test_a_snapshot_before_the_first_result_or_of_no_layer_is_refused(
    server: LocalServer, session: FakeSession
) -> None:
    assert ask(server, "/api/snapshot.png").status == 404
    show_square(session, 5)
    answer = ask(server, "/api/snapshot.png?layer=mask")
    assert answer.status == 400
    assert "overlay, frame, classes" in answer.json["error"]


def test_metrics_are_the_sessions(server: LocalServer, session: FakeSession) -> None:
    show_square(session, 5)
    session.drop(DropReason.QUEUE_FULL)
    ask(server, "/segment", b"no image")
    answer = ask(server, "/metrics")
    lines = answer.body.decode().splitlines()
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for line in (
        "cellseg_frames_sent_total 2",
        "cellseg_frames_done_total 1",
        'cellseg_frames_dropped_total{reason="queue-full"} 1',
        'cellseg_frames_dropped_total{reason="overtaken"} 0',
        'cellseg_latency_seconds{quantile="0.5"} 0.003',
        'cellseg_cells_total{class="nucleus"} 1',
        'cellseg_session_state{state="running"} 1',
        'cellseg_segment_requests_total{status="400"} 1',
    ):
        assert line in lines


def test_every_metric_is_described_once(server: LocalServer) -> None:
    lines = ask(server, "/metrics").body.decode().splitlines()
    described = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    named = {line.split("{")[0].split()[0] for line in lines if not line.startswith("#")}
    assert len(described) == len(set(described))
    assert named <= set(described)


# --- the WebSocket ---


def wish_of(server: LocalServer, wishes: list[str]) -> list[tuple[dict[str, Any], bytes]]:
    """Send wishes over a WebSocket; return the answers."""
    import asyncio

    import aiohttp

    async def talk() -> list[tuple[dict[str, Any], bytes]]:
        answers = []
        url = f"{server.base_url}/ws?token={TOKEN}"
        async with aiohttp.ClientSession() as client, client.ws_connect(url) as socket:
            for wish in wishes:
                await socket.send_str(wish)
                message = await socket.receive(timeout=10)
                if message.type != aiohttp.WSMsgType.BINARY:
                    break
                (length,) = struct.unpack_from("<I", message.data)
                answers.append(
                    (json.loads(message.data[4 : 4 + length]), message.data[4 + length :])
                )
        return answers

    return asyncio.run(talk())


def test_a_wish_is_granted_with_numbers_and_the_newest_picture(
    server: LocalServer, session: FakeSession
) -> None:
    for x in (5, 25):
        show_square(session, x)
    ((state, jpeg),) = wish_of(server, ['{"layer": "classes"}'])
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert state["done"] == 2
    assert state["picture"]["frame_id"] == 1
    assert state["history"]
    assert pixels[30, 30, 1] > 200
    assert pixels[30, 8, 1] < 60


def test_a_picture_is_sent_once_and_again_in_another_layer(
    server: LocalServer, session: FakeSession
) -> None:
    show_square(session, 5)
    layers = ["overlay", "overlay", "frame"]
    answers = wish_of(server, [json.dumps({"layer": layer}) for layer in layers])
    assert [bool(jpeg) for _, jpeg in answers] == [True, False, True]


@pytest.mark.parametrize("wish", ["", "{}", '{"layer": "mask"}', "[]", "7", "x" * 2000])
def test_a_wish_for_nothing_known_ends_the_talk_and_no_more(
    server: LocalServer, session: FakeSession, wish: str
) -> None:
    assert wish_of(server, [wish]) == []
    show_square(session, 5)
    assert wish_of(server, ['{"layer": "frame"}'])


def test_a_client_that_never_reads_holds_nobody_back(
    server: LocalServer, session: FakeSession
) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", server.port)) as lazy:
        lazy.sendall(
            f"GET /ws?token={TOKEN} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        wish = b'{"layer": "classes"}'  # in a WebSocket frame, masked with zeros
        lazy.sendall((bytes([0x81, 0x80 | len(wish)]) + bytes(4) + wish) * 300)
        for x in range(50):
            show_square(session, x)
        assert wish_of(server, ['{"layer": "frame"}'])[0][0]["picture"]["frame_id"] == 49


def test_16_bit_and_grey_frames_are_shown_too(server: LocalServer, session: FakeSession) -> None:
    ramp = np.linspace(1000, 3000, 64 * 64).astype(np.uint16).reshape(64, 64)
    session.show(ramp, np.zeros((64, 64), np.uint8))
    body = ask(server, "/api/snapshot.png?layer=frame").body
    seen = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert seen.min() == 0
    assert seen.max() == 255


def test_a_large_frame_is_reduced_for_the_page(server: LocalServer, session: FakeSession) -> None:
    session.show(np.zeros((1100, 2100, 3), np.uint8), np.zeros((1100, 2100), np.uint8))
    ((_, jpeg),) = wish_of(server, ['{"layer": "overlay"}'])
    shape = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape
    assert shape == (367, 700, 3)


def test_stopping_the_server_leaves_the_session_alone(
    server: LocalServer, session: FakeSession
) -> None:
    server.stop()
    server.stop()
    show_square(session, 5)
    assert session.results._callbacks == ()
    assert not [t for t in threading.enumerate() if t.name.startswith("cellseg-server")]
