from __future__ import annotations

import io
import json
import os
import stat
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cellseg.errors import CellsegError
from cellseg.live.counters import DropReason
from cellseg.runtime.bundle import shipped_models
from tests.fakes import IdentityEngine, fake_bundle, nuclei_picture
from tests.live.server.fake_session import FakeSession, show_square

pytest.importorskip("aiohttp", reason="the live extra is not installed")

from cellseg.live.server import ImageSegmenter, LocalServer, load_token
from cellseg.live.server.painter import paint_result

TOKEN = "a-token-for-tests-1"


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def server(session: FakeSession, tmp_path: Path) -> Iterator[LocalServer]:
    def open_engine(bundle: object, options: object, tile_hw: tuple[int, int]) -> IdentityEngine:
        return IdentityEngine(tile_hw)

    segmenter = ImageSegmenter(fake_bundle(tmp_path / "fake.cellseg"), open_engine)
    with LocalServer(session, segmenter, port=0, token=TOKEN) as started:
        yield started


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    server: LocalServer,
    path: str,
    data: bytes | None = None,
    method: str | None = None,
    token: str | None = TOKEN,
    **headers: str,
) -> Answer:
    every = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        every["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(server.base_url + path, data, every, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as got:
            return Answer(got.status, got.headers, got.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


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
    assert state == json.loads(json.dumps(session.snapshot().as_dict()))
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


# --- POST /segment ---


def test_an_image_is_segmented(server: LocalServer) -> None:
    picture = nuclei_picture(64, 48)
    answer = ask(server, "/segment", png(picture))
    foreground = int((picture[..., 1] > 127).sum())
    assert answer.status == 200
    assert (answer.json["width_px"], answer.json["height_px"]) == (48, 64)
    assert answer.json["classes"]["nucleus"]["pixels"] == foreground
    assert (answer.json["cells"], answer.json["objects"]) == (None, None)
    assert answer.json["model"] == "fake 1"


@pytest.mark.skipif("nuclei" not in shipped_models(), reason="no nuclei model is shipped")
def test_cells_are_listed_with_their_places(tmp_path: Path) -> None:
    picture = np.full((96, 96, 3), 20, np.uint8)
    cv2.circle(picture, (30, 40), 9, (200, 200, 200), -1)
    cv2.circle(picture, (70, 60), 9, (200, 200, 200), -1)
    segmenter = ImageSegmenter("nuclei", engine="onnxruntime", precision="fp32")
    with LocalServer(None, segmenter, port=0, token=TOKEN) as server:
        seen = ask(server, "/segment?mpp=0.5", png(picture)).json
        labels = ask(server, "/segment?format=png&layer=labels", png(picture)).body
    assert seen["cells"] == {"nucleus": 2}
    found = np.array(sorted((cell["x_px"], cell["y_px"]) for cell in seen["objects"]))
    assert np.abs(found - [(30.5, 40.5), (70.5, 60.5)]).max() < 3
    assert seen["objects"][0]["area_um2"] == seen["objects"][0]["area_px"] / 4
    mask = cv2.imdecode(np.frombuffer(labels, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (mask.dtype, mask.max()) == (np.uint16, 2)


def test_the_mask_comes_as_png_by_the_query_or_accept(server: LocalServer) -> None:
    picture = nuclei_picture(64, 48)
    for answer in (
        ask(server, "/segment?format=png", png(picture)),
        ask(server, "/segment", png(picture), Accept="image/png"),
    ):
        mask = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_UNCHANGED)
        assert answer.headers["Content-Type"] == "image/png"
        assert np.array_equal(mask, picture[..., 1] > 127)


def test_the_mask_comes_as_npz(server: LocalServer) -> None:
    picture = nuclei_picture(64, 48)
    answer = ask(server, "/segment?format=npz", png(picture))
    with np.load(io.BytesIO(answer.body)) as arrays:
        assert np.array_equal(arrays["classes"], picture[..., 1] > 127)
        assert arrays["class_names"].tolist() == ["background", "nucleus"]


def test_a_tiff_is_read_as_infer_reads_it(server: LocalServer) -> None:
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, nuclei_picture(40, 40), photometric="rgb")
    assert ask(server, "/segment", file.getvalue()).status == 200


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/segment", b"", "0 bytes"),
        ("/segment", b"no image", "image"),
        ("/segment", png(np.zeros((9, 9), np.uint8))[:40], "truncated"),
        ("/segment?format=bmp", b"x", "format=bmp"),
        ("/segment?layer=mask", b"x", "layer=mask"),
        ("/segment?mpp=-1", b"x", "mpp=-1"),
        ("/segment?mpp=nan", b"x", "mpp=nan"),
        ("/segment?mpp=wide", b"x", "mpp=wide"),
        ("/segment?format=png&layer=labels", png(np.zeros((9, 9), np.uint8)), "layer=labels"),
    ],
)
def test_bad_input_is_answered_with_what_is_wrong(
    server: LocalServer, path: str, body: bytes, message: str
) -> None:
    answer = ask(server, path, body, "POST")
    assert answer.status == 400
    assert message in answer.json["error"]
    assert "/tmp" not in answer.json["error"]


def test_too_many_pixels_are_refused_before_they_are_decoded(server: LocalServer) -> None:
    answer = ask(server, "/segment", png(np.zeros((8001, 8001), np.uint8)))
    assert answer.status == 413
    assert "8001x8001" in answer.json["error"]


def test_a_body_that_is_too_large_is_refused(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, session: FakeSession
) -> None:
    monkeypatch.setattr("cellseg.live.server.local.MAX_BODY_BYTES", 1000)
    segmenter = server._segmenter
    with LocalServer(None, segmenter, port=0, token=TOKEN) as small:
        assert ask(small, "/segment", bytes(2000)).status == 413


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/segment", 405)])
def test_wrong_paths_and_methods_are_answered_in_json(
    server: LocalServer, path: str, status: int
) -> None:
    answer = ask(server, path)
    assert answer.status == status
    assert "/openapi.json" in answer.json["hint"]


def test_people_are_told_in_words_what_is_wrong(server: LocalServer) -> None:
    answer = ask(server, "/?token=wrong", token=None, Accept="text/html,*/*")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.status == 403
    assert b"A token is needed. Received: a wrong one." in answer.body
    answer = ask(server, "/%3Cscript%3E", Accept="text/html")
    assert b"&lt;script&gt;" in answer.body
    assert b"<script>" not in answer.body


def test_many_clients_at_once_are_all_served(server: LocalServer) -> None:
    from concurrent.futures import ThreadPoolExecutor

    picture = png(nuclei_picture(32, 32))
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(server, "/segment", picture).status, range(12)))
    assert set(answers) == {200}


# --- OpenAPI ---


def test_the_description_lists_what_is_there(server: LocalServer) -> None:
    document = ask(server, "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": server.base_url}]
    for path, methods in document["paths"].items():
        for method in methods:
            assert ask(server, path, method=method.upper()).status not in (404, 405, 500) or (
                path == "/api/snapshot.png"
            )


def test_a_server_without_a_session_has_no_page_and_says_so() -> None:
    with LocalServer(None, None, port=0, token=TOKEN) as bare:
        assert ask(bare, "/").status == 404
        assert set(ask(bare, "/openapi.json").json["paths"]) == {"/health", "/metrics"}
        assert ask(bare, "/health").json["session"] is None


def test_answers_have_the_fields_that_the_description_promises(
    server: LocalServer, session: FakeSession
) -> None:
    show_square(session, 5)
    schemas = ask(server, "/openapi.json").json["components"]["schemas"]
    answers = {
        "Segmentation": ask(server, "/segment", png(nuclei_picture(32, 32))).json,
        "State": ask(server, "/api/state").json,
        "Error": ask(server, "/segment", b"x").json,
    }
    for name, answer in answers.items():
        assert set(schemas[name]["required"]) <= set(answer)
