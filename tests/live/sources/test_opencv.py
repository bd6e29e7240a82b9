"""Videos and cameras through OpenCV."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from cellseg.errors import SourceError
from cellseg.live.sources import opencv as module
from cellseg.live.sources.opencv import CameraSource, VideoSource, open_camera


def write_video(path: Path, count: int = 5) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for index in range(count):
        bgr = np.zeros((48, 64, 3), np.uint8)
        bgr[..., 2] = 200  # red
        bgr[:, : index * 8, 0] = 200
        writer.write(bgr)
    writer.release()
    return path


class FlakyCapture:
    """Gives some frames, is gone for some openings, and comes back."""

    script: ClassVar[list[int]] = []

    def __init__(self) -> None:
        self.left = self.script.pop(0) if self.script else 0

    def isOpened(self) -> bool:
        return self.left > 0

    def read(self) -> tuple[bool, Any]:
        self.left -= 1
        return (False, None) if self.left < 0 else (True, np.full((4, 4, 3), 7, np.uint8))

    def get(self, _: int) -> float:
        return 4.0

    def release(self) -> None:
        pass


def test_a_video_gives_its_frames_in_rgb(tmp_path: Path) -> None:
    video = VideoSource(write_video(tmp_path / "a.avi"), rate=1000.0)
    frames = list(video.frames(Event()))
    video.close()
    assert [frame.meta.frame_id for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[0].array.shape == (48, 64, 3)
    red, _, blue = frames[0].array.reshape(-1, 3).mean(0)
    assert red > 150 > 50 > blue


def test_frames_that_are_held_keep_their_pixels(tmp_path: Path) -> None:
    video = VideoSource(write_video(tmp_path / "a.avi"), rate=1000.0)
    means = [(frame, float(frame.array.mean())) for frame in video.frames(Event())]
    video.close()
    assert all(float(frame.array.mean()) == mean for frame, mean in means)


@pytest.mark.parametrize("content", [None, b"no video"], ids=["missing", "text"])
def test_a_video_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match="x.mp4"):
        VideoSource(path)


def test_a_camera_that_goes_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backoff_s", lambda attempt: 0.001)
    FlakyCapture.script = [3, 0, 0, 4]
    stop, seen = Event(), []
    camera = CameraSource("opencv:0", FlakyCapture)
    for frame in camera.frames(stop):
        seen.append(frame.meta.frame_id)
        if len(seen) == 7:
            stop.set()
    camera.close()
    assert seen == list(range(7))


@pytest.mark.parametrize(
    "answer", [(True, None), (True, np.zeros((0, 0, 3), np.uint8)), cv2.error("unplugged")], ids=str
)
def test_a_driver_that_answers_nonsense_is_waited_for(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "backoff_s", lambda attempt: 0.001)
    answers = [answer, answer]

    class Driver(FlakyCapture):
        def read(self) -> tuple[bool, Any]:
            if not answers:
                return super().read()
            found = answers.pop()
            if isinstance(found, Exception):
                raise found
            return found

    FlakyCapture.script = [1, 1, 1, 1]
    stop, seen = Event(), []
    camera = CameraSource("opencv:0", Driver)
    for frame in camera.frames(stop):
        seen.append(frame.array.shape)
        stop.set()
    camera.close()
    assert seen == [(4, 4, 3)]


def test_a_camera_that_is_not_there_is_refused() -> None:
    FlakyCapture.script = []
    with pytest.raises(SourceError, match="opencv:0") as caught:
        CameraSource("opencv:0", FlakyCapture)
    assert "plugged in" in str(caught.value.hint)


def test_a_pipeline_needs_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_gstreamer", lambda: False)
    with pytest.raises(SourceError, match="built with it"):
        open_camera("videotestsrc ! appsink")
