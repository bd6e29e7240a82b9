"""A folder that is being written to."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from cellseg.errors import SourceError
from cellseg.live.sources import folder as module
from cellseg.live.sources.folder import FolderSource
from tests.fakes import nuclei_picture


def png(value: int) -> bytes:
    return cv2.imencode(".png", np.full((8, 9, 3), value, np.uint8))[1].tobytes()


def take(folder: Path, count: int, write: Any = None) -> list[int]:
    stop, seen = Event(), []
    timer = threading.Timer(20, stop.set)
    timer.start()
    if write is not None:
        threading.Thread(target=write).start()
    for frame in FolderSource(folder, poll_s=0.01).frames(stop):
        seen.append(int(frame.array[0, 0, 0]))
        if len(seen) == count:
            stop.set()
    timer.cancel()
    return seen


def write_tiff(path: Path, mpp: float) -> None:
    pixels = np.zeros((8, 9, 3), np.uint8)
    size = {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
    tifffile.imwrite(path, pixels, photometric="rgb", ome=True, metadata={"axes": "YXS", **size})


def test_the_size_of_a_pixel_is_what_the_first_image_says(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.ome.tif", 0.25)
    (tmp_path / "b.png").write_bytes(png(1))
    assert FolderSource(tmp_path).mpp == 0.25
    assert FolderSource(tmp_path, mpp=1.0).mpp == 1.0


@pytest.mark.parametrize(("given", "told"), [(None, 1), (0.5, 0)])
def test_a_size_of_pixel_that_comes_later_is_told(
    tmp_path: Path, given: float | None, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    stop, source = Event(), FolderSource(tmp_path, mpp=given, poll_s=0.01)
    for number in range(3):
        write_tiff(tmp_path / f"{number}.ome.tif", 0.25)
    for frame in source.frames(stop):
        if frame.meta.frame_id == 2:
            stop.set()
    assert source.mpp == given
    assert caplog.text.count("frames state 0.25 µm a pixel") == told


def test_what_is_there_comes_first_and_each_file_once(tmp_path: Path) -> None:
    for value in (3, 1, 2):
        (tmp_path / f"{value}.png").write_bytes(png(value))
        time.sleep(0.005)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".4.png").write_bytes(png(4))

    def write() -> None:
        time.sleep(0.1)
        (tmp_path / "5.png").write_bytes(png(5))

    assert take(tmp_path, 4, write) == [3, 1, 2, 5]


def test_a_file_is_taken_only_when_it_is_whole(tmp_path: Path) -> None:
    picture = nuclei_picture(200, 200)
    picture[0, 0] = 77
    whole = cv2.imencode(".png", picture)[1].tobytes()

    def write() -> None:
        with (tmp_path / "slow.png").open("wb", buffering=0) as file:
            for start in range(0, len(whole), len(whole) // 5):
                file.write(whole[start : start + len(whole) // 5])
                time.sleep(0.05)

    assert take(tmp_path, 1, write) == [77]


def test_a_file_that_never_can_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    (tmp_path / "a.png").write_bytes(png(1)[:40])

    def write() -> None:
        time.sleep(0.3)
        (tmp_path / "b.png").write_bytes(png(2))

    assert take(tmp_path, 1, write) == [2]
    assert "a.png: passed over" in caplog.text


def test_a_folder_that_goes_away_ends_the_frames_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    frames = FolderSource(tmp_path / "x").frames(Event())
    (tmp_path / "x").rmdir()
    with pytest.raises(SourceError, match="must stay there"):
        next(frames)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        FolderSource(tmp_path / "nowhere")


def test_images_that_are_there_say_what_frames_will_be(tmp_path: Path) -> None:
    assert FolderSource(tmp_path).frame_kind is None
    (tmp_path / "a.png").write_bytes(png(1)[:40])
    (tmp_path / "b.png").write_bytes(png(1))
    assert FolderSource(tmp_path).frame_kind == ((8, 9, 3), np.dtype(np.uint8))
