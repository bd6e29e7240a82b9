"""Cameras and videos that OpenCV opens: USB cameras, RTSP, video files, GStreamer pipelines."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.errors import SourceError
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.pools import FramePool
from cellseg.live.sources.base import Pacer, backoff_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from threading import Event

    from numpy.typing import NDArray

    from cellseg.live.sources.base import FrameKind

    OpenCapture = Callable[[], Any]

__all__ = ["CameraSource", "VideoSource", "open_camera"]

_LOG = logging.getLogger(__name__)


class CameraSource:
    """A camera: it has no end, and when it goes away it is waited for.

    Parameters
    ----------
    name : str
        What is shown of it.
    open_capture : callable
        Returns what works as ``cv2.VideoCapture`` does.
    mpp : float, optional
        Microns per pixel.

    Raises
    ------
    SourceError
        If it is not there to begin with.
    """

    def __init__(self, name: str, open_capture: OpenCapture, mpp: float | None = None) -> None:
        self.name, self.mpp = name, mpp
        self._open_capture = open_capture
        self._pool = FramePool()
        self._capture: Any = self._opened()
        if self._capture is None:
            raise SourceError(
                f"A camera must be there to begin with. Received: {name}, which OpenCV cannot "
                "open.",
                hint=_camera_hint(name),
            )

    @property
    def frame_kind(self) -> FrameKind | None:
        """Shape and dtype that the driver states."""
        return None if self._capture is None else _kind(self._capture)

    @property
    def lost(self) -> Mapping[str, int]:
        """None that it knows of."""
        return {}

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield frames; while the camera is away, try again at growing intervals."""
        frame_id = attempt = 0
        while not stop.is_set():
            started_ns = time.monotonic_ns()
            pixels = self._read()
            if pixels is not None:
                yield Frame(pixels, FrameMeta(frame_id, started_ns))
                frame_id, attempt = frame_id + 1, 0
                continue
            self._wait_for_camera(attempt, stop)
            attempt += 1

    def close(self) -> None:
        """Release the camera."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _read(self) -> NDArray[Any] | None:
        if self._capture is None:
            return None
        try:
            is_there, bgr = self._capture.read()
        except cv2.error as error:
            _LOG.debug("%s: while reading: %s", self.name, error)
            return None
        is_whole = is_there and bgr is not None and bgr.size > 0  # some drivers' last word is empty
        return to_rgb(bgr, self._pool) if is_whole else None

    def _wait_for_camera(self, attempt: int, stop: Event) -> None:
        pause_s = backoff_s(attempt)
        if attempt == 0:
            _LOG.warning("%s: no frames; waiting for it to come back", self.name)
        self.close()
        if stop.wait(pause_s):
            return
        self._capture = self._opened()
        if self._capture is not None:
            _LOG.info("%s: open again", self.name)

    def _opened(self) -> Any:
        capture = self._open_capture()
        if capture.isOpened():
            return capture
        capture.release()
        return None


class VideoSource:
    """A video file, at its own rate or another, from beginning to end.

    Parameters
    ----------
    path : path
        Anything OpenCV's FFmpeg reads.
    rate : float, optional
        Frames a second; None: as the file says.
    mpp : float, optional
        Microns per pixel.

    Raises
    ------
    SourceError
        If there is no such file, or it is no video.
    """

    def __init__(
        self, path: str | Path, rate: float | None = None, mpp: float | None = None
    ) -> None:
        self.name, self.mpp = f"video:{path}", mpp
        if not Path(path).is_file():
            raise SourceError(f"A video must be a file that is there. Received: {path}.")
        self._capture: Any = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise SourceError(f"A video must be one that OpenCV can read. Received: {path}.")
        self._rate = rate or self._capture.get(cv2.CAP_PROP_FPS) or None
        self._pool = FramePool()

    @property
    def frame_kind(self) -> FrameKind | None:
        """Shape and dtype of the file's frames."""
        return _kind(self._capture)

    @property
    def lost(self) -> Mapping[str, int]:
        """None that it knows of."""
        return {}

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield the frames of the file; see `Source.frames`."""
        pacer, frame_id = Pacer(self._rate), 0
        while not stop.is_set():
            is_there, bgr = self._capture.read()
            if not is_there:
                return
            due_ns = pacer.wait(stop)
            yield Frame(to_rgb(bgr, self._pool), FrameMeta(frame_id, due_ns))
            frame_id += 1

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


def open_camera(address: str, rate: float | None = None, mpp: float | None = None) -> CameraSource:
    """Open a camera by number, by URL, or by a GStreamer pipeline.

    Parameters
    ----------
    address : str
        ``0``, ``rtsp://...``, or a pipeline that ends in ``appsink``.
    rate : float, optional
        Frames a second that the camera is asked for.
    mpp : float, optional
        Microns per pixel.
    """

    def capture() -> Any:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # we say it in our words
        opened = _capture(address)
        if rate is not None and opened.isOpened():
            opened.set(cv2.CAP_PROP_FPS, rate)
        opened.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what waits in the driver is old when it comes
        return opened

    if "!" in address and not _has_gstreamer():
        raise SourceError(
            "A GStreamer pipeline needs an OpenCV that was built with it. "
            f"Received: {address}, and OpenCV {cv2.__version__} without.",
            hint="On a Jetson use the system's OpenCV (apt install python3-opencv).",
        )
    return CameraSource(f"opencv:{address}", capture, mpp)


def to_rgb(bgr: NDArray[Any], pool: FramePool) -> NDArray[Any]:
    """Bring OpenCV's order of colours into ours, in memory of the pool."""
    if bgr.ndim == 2:
        out = pool.take(bgr.shape, bgr.dtype)
        out[:] = bgr
        return out
    out = pool.take((*bgr.shape[:2], 3), bgr.dtype)
    code = cv2.COLOR_BGRA2RGB if bgr.shape[2] == 4 else cv2.COLOR_BGR2RGB
    cv2.cvtColor(bgr, code, dst=out)
    return out


def _kind(capture: Any) -> FrameKind | None:
    height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    return ((height, width, 3), np.dtype(np.uint8)) if height > 0 < width else None


def _capture(address: str) -> Any:
    if address.isdecimal():
        return cv2.VideoCapture(int(address))
    if "!" in address:
        return cv2.VideoCapture(address, cv2.CAP_GSTREAMER)
    return cv2.VideoCapture(address)


def _has_gstreamer() -> bool:
    backends = cv2.videoio_registry.getCameraBackends() + cv2.videoio_registry.getStreamBackends()
    return cv2.CAP_GSTREAMER in backends and "GStreamer:                   NO" not in (
        cv2.getBuildInformation()
    )


def _camera_hint(name: str) -> str:
    address = name.partition(":")[2]
    if not address.isdecimal():
        return "Is the address right, and does it answer?"
    found = ", ".join(sorted(path.name for path in Path("/dev").glob("video*"))) or "none"
    return f"Is it plugged in, and free? Cameras here: {found}."
