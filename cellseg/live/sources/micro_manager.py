"""Any Micro-Manager device through pymmcore-plus, and the sink of an acquisition.

A configuration may name devices written in Python (``#py pyDevice,...`` lines): those run in
pymmcore-plus' UniMMCore, with nothing of Micro-Manager installed.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import SourceError
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.sources.base import Pacer, backoff_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from threading import Event

    from numpy.typing import NDArray

    from cellseg.live.session import LiveSession
    from cellseg.live.sources.base import FrameKind

__all__ = ["MicroManagerSource", "SessionSink", "open_micro_manager"]

_LOG = logging.getLogger(__name__)
_POLL_S = 0.001


class MicroManagerSource:
    """Frames of the camera of a Micro-Manager core.

    Parameters
    ----------
    name : str
        What is shown of it.
    open_core : callable
        Returns a core with its configuration loaded; called again after the camera was gone.
    rate : float, optional
        Frames a second, each snapped; None: a continuous sequence, as fast as the camera is.
    mpp : float, optional
        Microns per pixel; None: what the configuration says.
    """

    def __init__(
        self,
        name: str,
        open_core: Callable[[], Any],
        rate: float | None = None,
        mpp: float | None = None,
    ) -> None:
        self.name = name
        self._open_core, self._rate = open_core, rate
        self._core: Any = open_core()
        if not self._core.getCameraDevice():
            raise SourceError(
                f"A configuration must name a camera. Received: {name} without one.",
                hint="Add a line such as: Property,Core,Camera,Camera",
            )
        self.mpp = mpp or (self._core.getPixelSizeUm() or None)

    @property
    def frame_kind(self) -> FrameKind | None:
        """Shape and dtype of the camera's images."""
        core = self._core
        if core is None or core.getNumberOfComponents() != 1:
            return None
        dtype = np.dtype(np.uint8 if core.getBytesPerPixel() == 1 else np.uint16)
        return (core.getImageHeight(), core.getImageWidth()), dtype

    @property
    def lost(self) -> Mapping[str, int]:
        """None that it knows of."""
        return {}

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield frames; when the core fails, load it anew at growing intervals."""
        frame_id = attempt = 0
        while not stop.is_set():
            for frame in self._until_it_fails(frame_id, stop):
                yield frame
                frame_id, attempt = frame.meta.frame_id + 1, 0
            stop.wait(backoff_s(attempt))
            attempt += 1

    def close(self) -> None:
        """Stop the camera and release the devices."""
        core, self._core = self._core, None
        if core is None:
            return
        try:
            core.stopSequenceAcquisition()
            core.unloadAllDevices()
        except RuntimeError as error:  # a device that is gone cannot be told to stop
            _LOG.debug("%s: while closing: %s", self.name, error)

    def _until_it_fails(self, frame_id: int, stop: Event) -> Iterator[Frame]:
        try:
            yield from self._stream(frame_id, stop)
        except (RuntimeError, ValueError, OSError) as error:
            _LOG.warning("%s: %s; trying again", self.name, error)
            self.close()

    def _stream(self, frame_id: int, stop: Event) -> Iterator[Frame]:
        if self._core is None:
            self._core = self._open_core()
        images = self._sequence(stop) if self._rate is None else self._snaps(stop)
        for pixels, started_ns in images:
            yield Frame(pixels, self._meta(frame_id, started_ns))
            frame_id += 1

    def _sequence(self, stop: Event) -> Iterator[tuple[NDArray[Any], int]]:
        core = self._core
        core.startContinuousSequenceAcquisition(0)
        while not stop.is_set():
            if core.getRemainingImageCount() > 0:
                pixels = core.popNextImage()
                yield pixels, time.monotonic_ns() - int(core.getExposure() * 1e6)
            elif not core.isSequenceRunning():
                raise RuntimeError("the camera stopped")
            else:
                stop.wait(_POLL_S)
        core.stopSequenceAcquisition()

    def _snaps(self, stop: Event) -> Iterator[tuple[NDArray[Any], int]]:
        pacer = Pacer(self._rate)
        while not stop.is_set():
            pacer.wait(stop)
            started_ns = time.monotonic_ns()
            self._core.snapImage()
            yield self._core.getImage(), started_ns

    def _meta(self, frame_id: int, started_ns: int) -> FrameMeta:
        return FrameMeta(frame_id, started_ns, _stage_um(self._core), _channel(self._core))


class SessionSink:
    """Feeds a session from a pymmcore-plus acquisition: ``core.run_mda(events, output=sink)``.

    Parameters
    ----------
    session : LiveSession
        Gets every frame. It is not closed when the acquisition ends.
    """

    def __init__(self, session: LiveSession) -> None:
        self._session = session
        self._frame_id = 0

    def frameReady(  # pymmcore-plus' name
        self, image: NDArray[Any], event: Any, meta: Any = None
    ) -> None:
        """Take a frame; called by the runner."""
        exposure_ms = (meta or {}).get("exposure_ms") or 0.0
        started_ns = time.monotonic_ns() - int(exposure_ms * 1e6)
        x, y, z = event.x_pos, event.y_pos, event.z_pos
        where_um = None if x is None or y is None else (float(x), float(y), float(z or 0.0))
        channel = None if event.channel is None else str(event.channel.config)
        self._session.submit(image, FrameMeta(self._frame_id, started_ns, where_um, channel))
        self._frame_id += 1


def open_micro_manager(
    config: str, rate: float | None = None, mpp: float | None = None
) -> MicroManagerSource:
    """Open a source by a Micro-Manager configuration file.

    Raises
    ------
    SourceError
        If pymmcore-plus or the file is missing, or a device of it cannot be loaded.
    """
    path = Path(config)
    if not path.is_file():
        raise SourceError(f"A Micro-Manager configuration must be a file. Received: {config}.")
    core_class = _core_class()

    def open_core() -> Any:
        core = core_class()
        core.loadSystemConfiguration(str(path))
        return core

    try:
        return MicroManagerSource(f"mm:{config}", open_core, rate, mpp)
    except SourceError:
        raise
    except Exception as error:  # of every device's own kind
        raise SourceError(
            f"A Micro-Manager configuration must load. Received: {config}: {error}.",
            hint="Device adapters come with 'mmcore install'; see pymmcore-plus' documentation.",
        ) from error


def _core_class() -> Any:
    """Return the core that also runs devices written in Python, where there is one."""
    try:
        from pymmcore_plus import CMMCorePlus
    except ModuleNotFoundError as error:
        raise SourceError(
            "A Micro-Manager source needs the live extra. Received: no module 'pymmcore_plus'.",
            hint="pip install 'cellseg[live]'",
        ) from error
    try:
        from pymmcore_plus.experimental.unicore import UniMMCore
    except ImportError:
        return CMMCorePlus
    return UniMMCore


def _stage_um(core: Any) -> tuple[float, float, float] | None:
    if not core.getXYStageDevice():
        return None
    z_um = core.getPosition() if core.getFocusDevice() else 0.0
    return core.getXPosition(), core.getYPosition(), z_um


def _channel(core: Any) -> str | None:
    group = core.getChannelGroup()
    return (core.getCurrentConfig(group) or None) if group else None
