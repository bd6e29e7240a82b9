"""Recordings: what is kept, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg.errors import StoreError
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.json_lines import read_lines
from cellseg.live.recorder import Recorder
from tests.fakes import nuclei_picture


def record(folder: Path, session: Any, frames: list[Any]) -> Recorder:
    recorder = Recorder(folder, session, mpp=0.5, may_wait=True)
    for number, frame in enumerate(frames):
        session.submit(Frame(frame, FrameMeta(number, 0, (1.0 + number, 2.0, 3.0), "DAPI")))
    session.wait_idle(10)
    session.close()
    recorder.close()
    return recorder


def test_frames_and_masks_are_kept_as_they_were(tmp_path: Path, session: Any) -> None:
    frames = [nuclei_picture(40, 50, n) for n in range(3)]
    results: list[Any] = []
    session.on_result(lambda result: results.append(result))
    assert record(tmp_path / "r", session, frames).recorded == 3
    lines = list(read_lines(tmp_path / "r" / "frames.jsonl"))
    for line, frame, result in zip(lines, frames, results, strict=True):
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "r" / line["frame"]), frame)
        mask = tifffile.imread(tmp_path / "r" / line["mask"])
        np.testing.assert_array_equal(mask, [result.classes, result.labels])
        assert line["counts"] == result.counts
    assert lines[2]["stage_xyz_um"] == [3.0, 2.0, 3.0]


def test_the_files_say_where_and_how_large_a_pixel_is(tmp_path: Path, session: Any) -> None:
    record(tmp_path / "r", session, [nuclei_picture(40, 50)])
    for name in ("frames", "masks"):
        with tifffile.TiffFile(tmp_path / "r" / name / "frame_000000.ome.tif") as file:
            assert file.is_ome
            assert 'PhysicalSizeX="0.5"' in str(file.ome_metadata)
            assert 'PositionY="2.0"' in str(file.ome_metadata)


@pytest.mark.parametrize(
    "frame",
    [
        nuclei_picture(30, 20)[..., 0],
        nuclei_picture(30, 20)[..., :1],
        nuclei_picture(30, 20).astype(np.uint16) * 257,
    ],
    ids=["grey", "one-channel", "uint16"],
)
def test_frames_of_every_kind_are_kept(tmp_path: Path, session: Any, frame: Any) -> None:
    record(tmp_path / "r", session, [frame])
    found = tifffile.imread(tmp_path / "r" / "frames" / "frame_000000.ome.tif")
    np.testing.assert_array_equal(found, np.squeeze(frame))


def test_a_recording_is_never_overwritten(tmp_path: Path, session: Any) -> None:
    record(tmp_path / "r", session, [nuclei_picture(30, 20)])
    with pytest.raises(StoreError, match="never overwritten"):
        Recorder(tmp_path / "r", session)


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("of a library's own")], ids=str)
def test_a_disk_that_fails_stops_the_recording_and_not_the_session(
    tmp_path: Path, session: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(tifffile, "imwrite", fail)
    recorder = record(tmp_path / "r", session, [nuclei_picture(30, 20)] * 3)
    assert (recorder.recorded, recorder.left_out) == (0, 3)
    assert session.snapshot().counters.done == 3


KILLED = """
import sys, pathlib
from cellseg import LiveSession
from cellseg.live.recorder import Recorder
from tests.fakes import IdentityEngine, fake_bundle, nuclei_picture
folder = pathlib.Path(sys.argv[1])
bundle = fake_bundle(folder / "m.cellseg")
session = LiveSession(bundle, policy="block", open_engine=lambda _, __, hw: IdentityEngine(hw))
recorder = Recorder(folder / "r", session, may_wait=True)
while True:
    session.submit(nuclei_picture(200, 200))
"""


def test_after_kill_9_every_whole_frame_can_be_read(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=os.environ)
    lines = tmp_path / "r" / "frames.jsonl"
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        if lines.exists() and lines.read_text().count("\n") >= 5:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = list(read_lines(lines))
    assert len(kept) >= 5
    for line in kept:
        assert tifffile.imread(tmp_path / "r" / line["frame"]).shape == (200, 200, 3)
        assert tifffile.imread(tmp_path / "r" / line["mask"]).shape[-2:] == (200, 200)
