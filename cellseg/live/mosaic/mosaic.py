"""A scan that grows: frames are kept, registered with their neighbours and placed as they come.

While the scan lasts, a frame's place is good enough to tell a cell that was counted before from a
new one. At its end all places are solved for at once, and the mosaic is a slide like any other.
"""

from __future__ import annotations

import logging
import queue
from collections import OrderedDict
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.errors import StoreError
from cellseg.live.mosaic.kept import KEPT_FOLDER, KeptFrames
from cellseg.live.mosaic.placement import Link, settle_loose, solve_places
from cellseg.live.mosaic.register import find_shift
from cellseg.live.mosaic.slide import MosaicSlide, PlacedFrame
from cellseg.runtime.slides.slide import rgb_from_samples
from cellseg.runtime.view.painted_stain import empty_channels
from cellseg.runtime.view.value_counts import count_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.live.frame import Frame, FrameMeta

__all__ = ["Mosaic"]

_LOG = logging.getLogger(__name__)
_WAITING = 16
_GREYS_KEPT = 64
_MEAN = np.full((1, 3), 1 / 3)
_STAGE_WEIGHT = 0.05
_FARTHEST_UM = 1e9  # no stage is a kilometre long
_EVERY = 8  # one in so many rows and columns says how bright a frame is


@dataclass(eq=False)
class _Known:
    """A frame of the mosaic."""

    frame_id: int
    path: Path
    hw: tuple[int, int]
    stage_yx: tuple[float, float]
    place_yx: tuple[float, float]


class Mosaic:
    """Puts the frames of a scan together, in a thread of its own.

    Parameters
    ----------
    path : Path
        Of the file that the mosaic will be; frames are kept in a folder beside it meanwhile.
    mpp : float, optional
        Microns per pixel; None: the stage counts in pixels.
    may_wait : bool
        Whether `add` waits where the disk is slower than the camera; else the frame is left out.
    placed : callable, optional
        Told, from the mosaic's thread, of each frame that has a place, and where, (y, x) in pixels.

    Attributes
    ----------
    left_out : int
        Frames that have no place: no stage or one at no number, another channel than the first,
        another size of pixel, or too fast.
    """

    def __init__(
        self,
        path: Path,
        mpp: float | None = None,
        may_wait: bool = True,
        placed: Callable[[Frame, tuple[float, float]], object] | None = None,
    ) -> None:
        self._placed = placed
        self._path, self._mpp, self._may_wait = path, mpp, may_wait
        self._kept = KeptFrames(path.with_name(KEPT_FOLDER), mpp)
        self.left_out = 0
        self._known: list[_Known] = []
        self._greys: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._links: list[Link] = []
        self._kind: tuple[Any, ...] | None = None
        self._medians: list[float] = []
        self._failure: Exception | None = None
        self._queue: queue.Queue[Frame | None] = queue.Queue(_WAITING)
        self._thread: Thread | None = Thread(target=self._work, name="cellseg-mosaic", daemon=True)
        self._thread.start()

    def add(self, frame: Frame) -> None:
        """Take a frame; its pixels are read later, in another thread."""
        if not _has_place(frame.meta) or np.ndim(frame.array) not in (2, 3):
            self.left_out += 1
        elif self._may_wait:
            self._queue.put(frame)
        else:
            self._put_if_room(frame)

    def finish(self) -> MosaicSlide | None:
        """Register what waits, place all frames, and return the mosaic; None without frames.

        Raises
        ------
        StoreError
            If a frame could not be kept, as on a full disk.
        """
        self.close()
        if isinstance(self._failure, OSError):
            raise StoreError(
                "The frames of a scan are kept on the disk until the mosaic is made. "
                f"Received: {self._kept.folder} ({self._failure}).",
                hint="Free some space, or choose another folder with -o; frames kept so far are "
                f"played again by: cellseg-cli live recording:{self._path.parent}",
            ) from self._failure
        if self._failure is not None:
            raise self._failure
        if not self._known:
            return None
        stage = np.array([known.stage_yx for known in self._known], np.float64)
        sizes = np.array([known.hw for known in self._known], np.float64)
        solved = solve_places(stage, self._links)
        places = np.rint(settle_loose(solved, stage, sizes, self._links)).astype(int)
        places -= places.min(0)
        frames = [
            PlacedFrame(known.path, (int(y), int(x)), known.hw, known.frame_id)
            for known, (y, x) in zip(self._known, places, strict=True)
        ]
        return MosaicSlide(self._path, frames, self._mpp, float(np.median(self._medians)))

    def remove_frames(self) -> None:
        """Remove the frames from the disk, once the mosaic is a file of its own."""
        self.close()
        self._kept.remove()

    def leave(self) -> Path:
        """Leave the frames on the disk, and return the folder that they are played from."""
        self.close()
        return self._path.parent

    def close(self) -> None:
        """Work off what waits and end the thread. May be called again."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
            self._kept.close()

    @property
    def link_count(self) -> int:
        """How many pairs of frames were registered."""
        return len(self._links)

    def _put_if_room(self, frame: Frame) -> None:
        try:
            self._queue.put_nowait(frame)
        except queue.Full:
            self.left_out += 1

    def _in_px(self, frame: Frame) -> tuple[float, float]:
        assert frame.meta.stage_xyz_um is not None  # or it would have been left out
        x, y, _ = frame.meta.stage_xyz_um
        mpp = self._mpp or 1.0
        return y / mpp, x / mpp

    # --- the mosaic's thread ---

    def _work(self) -> None:
        while (frame := self._queue.get()) is not None:
            if self._failure is None and self._is_of_kind(frame):
                try:
                    self._place(frame)
                    continue
                except Exception as error:  # the scan goes on, and `finish` tells of it
                    _LOG.error("no more frames are kept for the mosaic: %s", error)
                    self._failure = error
            self.left_out += 1

    def _is_of_kind(self, frame: Frame) -> bool:
        kind = (frame.meta.channel, frame.array.dtype)
        self._kind = self._kind or kind
        return kind == self._kind

    def _place(self, frame: Frame) -> None:
        index, path = len(self._known), self._kept.keep(frame)
        grey = _grey(frame.array)
        self._medians.append(float(np.median(grey[::_EVERY, ::_EVERY])) / 255)
        stage_yx = self._in_px(frame)
        links = self._register(index, grey, stage_yx)
        hw = (grey.shape[0], grey.shape[1])
        known = _Known(frame.meta.frame_id, path, hw, stage_yx, stage_yx)
        known.place_yx = self._guess(known, links)
        self._keep_grey(index, grey)
        self._known.append(known)
        self._links += links
        if self._placed is not None:
            self._placed(frame, known.place_yx)

    def _register(
        self, index: int, grey: NDArray[np.uint8], stage_yx: tuple[float, float]
    ) -> list[Link]:
        """Measure the shifts to the frames before it that it should overlap."""
        links = []
        for other in self._neighbours(grey.shape, stage_yx):
            expected = np.rint(np.subtract(stage_yx, self._known[other].stage_yx)).astype(int)
            shift = find_shift(self._grey_of(other), grey, (int(expected[0]), int(expected[1])))
            if shift is not None:
                links.append(Link(other, index, shift.yx, shift.likeness))
        return links

    def _guess(self, known: _Known, links: list[Link]) -> tuple[float, float]:
        """Place a frame by its neighbours as they lie now, and a little by the stage."""
        weights = [_STAGE_WEIGHT, *(link.weight for link in links)]
        guesses = [np.array(known.stage_yx)]
        guesses += [np.add(self._known[link.first].place_yx, link.yx) for link in links]
        y, x = np.average(guesses, axis=0, weights=weights)
        return float(y), float(x)

    def _neighbours(self, hw: tuple[int, ...], stage_yx: tuple[float, float]) -> list[int]:
        """Return the frames so far that one at a place of the stage overlaps."""
        if not self._known:
            return []
        starts = np.array([known.stage_yx for known in self._known])
        stops = starts + [known.hw for known in self._known]
        overlaps = (starts < np.add(stage_yx, hw)) & (stops > stage_yx)
        return [int(index) for index in np.nonzero(overlaps.all(axis=1))[0]]

    def _grey_of(self, index: int) -> NDArray[np.uint8]:
        """Return a frame in grey, from the disk if it has not been needed for long."""
        grey = self._greys.pop(index, None)
        if grey is None:
            grey = _grey(np.load(self._known[index].path))
        self._keep_grey(index, grey)
        return grey

    def _keep_grey(self, index: int, grey: NDArray[np.uint8]) -> None:
        self._greys[index] = grey
        while len(self._greys) > _GREYS_KEPT:
            self._greys.popitem(last=False)


def _has_place(meta: FrameMeta) -> bool:
    """Whether a stage says where a frame lies; a driver may say NaN, or infinity."""
    stage = meta.stage_xyz_um
    return stage is not None and all(abs(axis_um) < _FARTHEST_UM for axis_um in stage[:2])


def _one_channel(rgb: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of the channels: some dyes show in one of them only.

    Of painted stains, the largest: empty channels would take the contrast out of dim fields.
    """
    if not empty_channels(count_image(rgb[::_EVERY, ::_EVERY])):
        return np.asarray(cv2.transform(rgb, _MEAN))
    red, green, blue = cv2.split(rgb)
    return np.asarray(cv2.max(cv2.max(red, green), blue))


def _grey(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return one channel in 8 bits, in which frames are compared."""
    grey = image if image.ndim == 2 else _one_channel(rgb_from_samples(image))
    if grey.dtype == np.uint8:
        return np.ascontiguousarray(grey)
    return np.asarray(cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX), np.uint8)
