"""Recordings played again."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg.errors import SourceError
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.recorder import Recorder
from cellseg.live.sources.recording import RecordingSource
from cellseg.live.sources.table import is_camera, open_source
from tests.fakes import nuclei_picture


@pytest.fixture
def recording(tmp_path: Path, session: Any) -> tuple[Path, list[Frame]]:
    """Return the result folder of a recording, and the frames in it."""
    frames = [
        Frame(nuclei_picture(40, 50, 1), FrameMeta(7, 0, (1.0, 2.0, 3.0), "DAPI")),
        Frame(nuclei_picture(30, 20, 2)[..., 0].astype(np.uint16), FrameMeta(9, 0)),
    ]
    recorder = Recorder(tmp_path / "scope" / "recording", session, mpp=0.5, may_wait=True)
    for frame in frames:
        session.submit(frame).result(10)
    session.close()
    recorder.close()
    return tmp_path / "scope", frames


def test_frames_come_as_they_were(recording: tuple[Path, list[Frame]]) -> None:
    folder, frames = recording
    for place in (folder, folder / "recording"):
        source = open_source(f"recording:{place}")
        assert source.mpp == 0.5
        assert source.frame_kind == ((40, 50, 3), np.dtype(np.uint8))
        for before, after in zip(frames, source.frames(Event()), strict=True):
            np.testing.assert_array_equal(before.array, after.array)
            assert before.array.dtype == after.array.dtype
            for name in ("frame_id", "stage_xyz_um", "channel"):
                assert getattr(before.meta, name) == getattr(after.meta, name)


def test_a_frame_that_is_gone_or_damaged_is_passed_over(
    recording: tuple[Path, list[Frame]],
) -> None:
    folder, _ = recording
    (folder / "recording" / "frames" / "frame_000000.ome.tif").write_bytes(b"II*\0torn")
    source = RecordingSource(folder)
    assert [frame.meta.frame_id for frame in source.frames(Event())] == [9]
    assert source.passed_over == 1


@pytest.mark.parametrize("kind", ["xml", "height", "npy"])
def test_damage_that_readers_trip_over_costs_one_frame(
    recording: tuple[Path, list[Frame]], kind: str
) -> None:
    folder, _ = recording
    lines = folder / "recording" / "frames.jsonl"
    path = folder / "recording" / "frames" / "frame_000000.ome.tif"
    if kind == "npy":
        lines.write_text(lines.read_text().replace(path.name, "x.npy"))
        np.save(path.with_name("x.npy"), np.zeros((40, 50, 3), np.uint8))
        path = path.with_name("x.npy")
        path.write_bytes(path.read_bytes().replace(b"(40, 50, 3), }", b"(40, 50, 3,    "))
    elif kind == "height":  # of terabytes
        with tifffile.TiffFile(path, mode="r+") as tiff:
            tiff.pages.first.tags["ImageLength"].overwrite(2**31, dtype="I")
    else:
        path.write_bytes(path.read_bytes().replace(b"PixelType", b"PixxlType"))
    ids = [frame.meta.frame_id for frame in RecordingSource(folder).frames(Event())]
    assert ids == ([7, 9] if kind == "xml" else [9])  # pixels need no XML


@pytest.mark.parametrize("mpp", ["abc", -1.0, [0.5], None], ids=str)
def test_a_size_of_pixel_that_is_none_is_not_known(
    recording: tuple[Path, list[Frame]], mpp: Any
) -> None:
    lines = recording[0] / "recording" / "frames.jsonl"
    lines.write_text(lines.read_text().replace('"mpp": 0.5', f'"mpp": {json.dumps(mpp)}'))
    assert RecordingSource(recording[0]).mpp is None


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        ("[1]", None),
        ('["a", 1, 2]', None),
        ("[NaN, NaN, NaN]", None),
        ("[1.5, 2.0, NaN]", (1.5, 2.0, 0.0)),
    ],
)
def test_a_frame_whose_stage_gave_no_number_is_played_all_the_same(
    recording: tuple[Path, list[Frame]], stage: str, place: Any
) -> None:
    lines = recording[0] / "recording" / "frames.jsonl"
    written = [json.loads(line) | {"stage_xyz_um": 0} for line in lines.read_text().splitlines()]
    text = "".join(f"{json.dumps(line)}\n" for line in written)
    lines.write_text(text.replace('"stage_xyz_um": 0', f'"stage_xyz_um": {stage}'))
    found = list(RecordingSource(recording[0]).frames(Event()))
    assert [frame.meta.frame_id for frame in found] == [7, 9]
    assert [frame.meta.stage_xyz_um for frame in found] == [place, place]


def test_lines_that_tell_of_no_frame_are_passed_over(recording: tuple[Path, list[Frame]]) -> None:
    folder, _ = recording
    lines = folder / "recording" / "frames.jsonl"
    first, *others = lines.read_text().splitlines()
    strange = ["{", "[1]", "3", '{"id": 4}', '{"frame": "x"}']
    lines.write_text("\n".join([first, *strange, *others]) + "\n")
    assert [frame.meta.frame_id for frame in RecordingSource(folder).frames(Event())] == [7, 9]


def test_a_recording_waits_unless_it_is_played_at_a_rate() -> None:
    assert not is_camera("recording:x")
    assert is_camera("recording:x", rate=5)


def test_a_folder_without_a_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"frames\.jsonl") as refused:
        RecordingSource(tmp_path)
    assert "--record" in str(refused.value.hint)
    (tmp_path / "frames.jsonl").write_text('{"id": 1, "fra')
    with pytest.raises(SourceError, match="at least one frame"):
        RecordingSource(tmp_path)
