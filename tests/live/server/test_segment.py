"""``POST /segment``, and what the server says of itself."""

from __future__ import annotations

import io
import socket
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cellseg.errors import CellsegError
from cellseg.live.server import ImageSegmenter, LocalServer
from cellseg.live.server.posted_image import MAX_BODY_BYTES
from cellseg.runtime.bundles.bundle import shipped_models
from tests.fakes import IdentityEngine, fake_bundle, nuclei_picture
from tests.live.server.client import TOKEN, ask, png
from tests.live.server.fake_session import FakeSession, show_square


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
        doubted = ask(server, "/segment?mpp=100", png(picture)).json
    assert (seen["doubts"], len(doubted["doubts"])) == ([], 1)
    assert "200 times as large" in doubted["doubts"][0]
    assert seen["cells"] == {"nucleus": 2}
    found = np.array(sorted((cell["x_px"], cell["y_px"]) for cell in seen["objects"]))
    assert np.abs(found - [(30.5, 40.5), (70.5, 60.5)]).max() < 3
    assert seen["objects"][0]["area_um2"] == seen["objects"][0]["area_px"] / 4
    mask = cv2.imdecode(np.frombuffer(labels, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (mask.dtype, mask.max()) == (np.uint16, 2)


def test_the_pixel_size_of_the_segmenter_is_the_one_that_is_told(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "m.cellseg", mpp=0.5)
    made = ImageSegmenter(bundle, lambda _, __, hw: IdentityEngine(hw), mpp=0.25)
    with LocalServer(None, made, port=0, token=TOKEN) as server:
        answer = ask(server, "/segment", png(nuclei_picture(64, 48)))
        asked = ask(server, "/segment?mpp=1", png(nuclei_picture(64, 48)))
    assert (answer.json["mpp"], asked.json["mpp"]) == (0.25, 1)


def test_the_mask_comes_as_png_by_the_query_or_accept(server: LocalServer) -> None:
    picture = nuclei_picture(64, 48)
    for answer in (
        ask(server, "/segment?format=png", png(picture)),
        ask(server, "/segment", png(picture), Accept="image/png"),
    ):
        mask = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_UNCHANGED)
        assert answer.headers["Content-Type"] == "image/png"
        assert np.array_equal(mask, picture[..., 1] > 127)


@pytest.mark.parametrize(
    ("query", "hint"), [("mmp=0.25", "mpp"), ("Format=png", "format"), ("x=1", "openapi")]
)
def test_a_misspelled_query_is_refused(server: LocalServer, query: str, hint: str) -> None:
    answer = ask(server, f"/segment?{query}", png(nuclei_picture(64, 48)))
    assert answer.status == 400
    assert hint in answer.json["hint"]


def test_a_form_is_told_from_an_image(server: LocalServer) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nPNG\r\n--x--\r\n'
    answer = ask(server, "/segment", form, Content_Type="multipart/form-data; boundary=x")
    assert answer.status == 400
    assert "no form" in answer.json["error"]


def test_a_body_that_is_too_large_is_told_the_limit(server: LocalServer) -> None:
    answer = ask(server, "/segment", bytes(MAX_BODY_BYTES + 1))
    assert answer.status == 413
    assert "at most 64 MiB" in answer.json["error"]
    assert "infer" in answer.json["hint"]


def test_a_sender_that_goes_away_leaves_no_traceback(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST /segment HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as wire:
        wire.sendall(f"{head}Content-Length: 1000\r\n\r\nPNG".encode())
    for _ in range(100):
        if b'status="400"' in ask(server, "/metrics").body:
            break
        time.sleep(0.05)
    assert b'segment_requests_total{status="400"} 1' in ask(server, "/metrics").body
    assert "Traceback" not in caplog.text


@pytest.mark.skipif("nuclei" not in shipped_models(), reason="no nuclei model is shipped")
@pytest.mark.parametrize(("option", "value"), [("engine", "x"), ("precision", "x"), ("tile_px", 9)])
def test_what_no_image_could_be_segmented_with_is_refused_at_once(option: str, value: Any) -> None:
    with pytest.raises(CellsegError, match=f"{option}={value}|{option}='{value}'"):
        ImageSegmenter("nuclei", **{option: value})


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


def test_a_body_that_is_not_packed_as_it_says_is_refused(server: LocalServer) -> None:
    answer = ask(server, "/segment", b"no gzip", content_encoding="gzip")
    assert answer.status == 400
    assert "gzip" in answer.json["error"]


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
