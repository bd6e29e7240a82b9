"""Sessions with a fake engine, and results to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellseg import LiveSession
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.frame_cells import CELL_DTYPE
from cellseg.live.result import FrameLatency, FrameResult
from tests.fakes import CELL_HEAD, IdentityEngine, fake_bundle


@pytest.fixture
def cell_bundle(tmp_path: Path) -> Any:
    """Return a bundle that tells cells apart: what is bright is a nucleus."""
    return fake_bundle(tmp_path / "m.cellseg", head=CELL_HEAD)


@pytest.fixture
def session(cell_bundle: Any) -> Iterator[LiveSession]:
    """Yield a session that loses nothing."""
    with LiveSession(
        cell_bundle, policy="block", open_engine=lambda _, __, hw: IdentityEngine(hw)
    ) as made:
        yield made


@pytest.fixture
def result_of() -> Callable[..., FrameResult]:
    """Return a maker of results with given cells: (class index, area, x, y)."""

    def make(
        *cells: tuple[int, float, float, float],
        frame_id: int = 0,
        focus: float = 50.0,
        stage: tuple[float, float, float] | None = (100.0, 200.0, 3.0),
        names: tuple[str, ...] = ("healthy", "infected"),
    ) -> FrameResult:
        table = np.zeros(len(cells), CELL_DTYPE)
        for row, (kind, area, x, y) in zip(table, cells, strict=True):
            row["class_index"], row["area_um2"], row["x_px"], row["y_px"] = kind, area, x, y
        counts = {name: sum(c[0] == i for c in cells) for i, name in enumerate(names, 1)}
        pixels = np.zeros((4, 5, 3), np.uint8)
        frame = Frame(pixels, FrameMeta(frame_id, 0, stage))
        latency = FrameLatency(1.0, 2.0, 3.0)
        return FrameResult(frame, pixels[..., 0], None, counts, table, focus, latency)

    return make
