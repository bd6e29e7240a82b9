"""A camera written in Python through pymmcore-plus."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cellseg.errors import SourceError
from cellseg.live.sources import micro_manager as module
from cellseg.live.sources.micro_manager import SessionSink, open_micro_manager

pytest.importorskip("pymmcore_plus.experimental.unicore")

from tests.live.sources.py_camera import CountingCamera

CONFIG = """
#py pyDevice,Camera,tests.live.sources.py_camera,CountingCamera
#py Property,Core,Initialize,1
#py Property,Core,Camera,Camera
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    CountingCamera.count, CountingCamera.broken = 0, set()
    path = tmp_path / "scope.cfg"
    path.write_text(CONFIG)
    return str(path)


def take(source: Any, count: int) -> list[int]:
    stop, seen = Event(), []
    for frame in source.frames(stop):
        assert frame.array.shape == (32, 40)
        seen.append((frame.meta.frame_id, int(frame.array[0, 0])))
        if len(seen) == count:
            stop.set()
    source.close()
    return seen


@pytest.mark.parametrize("rate", [None, 200.0], ids=["sequence", "snaps"])
def test_frames_of_a_camera_come_in_order(config: str, rate: float | None) -> None:
    seen = take(open_micro_manager(config, rate), 6)
    assert [number for number, _ in seen] == list(range(6))
    values = [value for _, value in seen]
    assert values == sorted(set(values))


def test_a_camera_that_fails_is_opened_again(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backoff_s", lambda attempt: 0.001)
    CountingCamera.broken = {3}
    seen = take(open_micro_manager(config, 200.0), 5)
    assert [value for _, value in seen] == [1, 2, 4, 5, 6]
    assert [number for number, _ in seen] == list(range(5))


def test_an_acquisition_feeds_a_session(config: str) -> None:
    import useq
    from pymmcore_plus.experimental.unicore import UniMMCore

    class Recorder:
        def submit(self, image: Any, meta: Any) -> None:
            got.append((meta.frame_id, meta.stage_xyz_um, int(image[0, 0])))

    got: list[Any] = []
    core = UniMMCore()
    core.loadSystemConfiguration(config)
    events = [useq.MDAEvent(index={"t": t}) for t in range(3)]
    core.mda.run(events, output=SessionSink(Recorder()))  # type: ignore[arg-type]
    core.unloadAllDevices()
    assert [number for number, _, _ in got] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "must be a file"),
        ("#py pyDevice,Camera,no.such.module,Camera\n", "must load"),
        ("# nothing\n", "must name a camera"),
    ],
    ids=["missing", "no module", "no camera"],
)
def test_configurations_that_do_not_serve_are_refused(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "x.cfg"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SourceError, match=message):
        open_micro_manager(str(path))
