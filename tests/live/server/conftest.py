"""A server with a session that the test plays and a segmenter with a fake engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import IdentityEngine, fake_bundle
from tests.live.server.client import TOKEN
from tests.live.server.fake_session import FakeSession

pytest.importorskip("aiohttp", reason="the live extra is not installed")

from cellseg.live.server import ImageSegmenter, LocalServer


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
