"""A client of the local server, by the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from cellseg.live.server import LocalServer

TOKEN = "a-token-for-tests-1"


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
