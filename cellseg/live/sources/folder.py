"""A folder that another program writes images to: each is taken once, when it is complete."""

from __future__ import annotations

import logging
import math
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cellseg.errors import CellsegError, SourceError
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.sources.base import Pacer, PixelSize
from cellseg.runtime.slides.readers import open_slide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from threading import Event

    from numpy.typing import NDArray

    from cellseg.live.sources.base import FrameKind
    from cellseg.runtime.slides.slide import Slide

__all__ = ["FolderSource"]

_LOG = logging.getLogger(__name__)
_SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp"})
_POLL_S = 0.1
_PATIENCE_S = 5.0
_FILES_TRIED = 8

Stamp = tuple[int, int]
Fact = TypeVar("Fact")


class FolderSource:
    """Images of a folder, those that are there first, then those that come.

    A file is complete when size and time stay the same from one look to the next and it can be
    read. One that stays as it is for five seconds and still cannot be read is passed over, until it
    changes.

    Parameters
    ----------
    folder : path
        Looked at about ten times a second; folders in it are not.
    rate : float, optional
        Most frames a second; None: as they come.
    mpp : float, optional
        Microns per pixel; by default what the first image that is there says.
    poll_s : float
        Seconds between two looks.

    Raises
    ------
    SourceError
        If there is no such folder.
    """

    def __init__(
        self,
        folder: str | Path,
        rate: float | None = None,
        mpp: float | None = None,
        poll_s: float = _POLL_S,
    ) -> None:
        self._rate = rate
        self._folder, self._poll_s = Path(folder), poll_s
        self.name = f"folder:{folder}"
        if not self._folder.is_dir():
            raise SourceError(f"A folder to watch must be there. Received: {folder}.")
        self._seen: dict[Path, Stamp] = {}
        self._taken: dict[Path, Stamp] = {}
        self._unreadable_since: dict[Path, tuple[Stamp, float]] = {}
        self._passed_over = 0
        self._pixel_size = PixelSize(self.name, mpp, self._first(_mpp))

    @property
    def mpp(self) -> float | None:
        """Microns per pixel of the stream."""
        return self._pixel_size.mpp

    @property
    def frame_kind(self) -> FrameKind | None:
        """That of an image that is there already; None if there is none."""
        return self._first(_kind)

    @property
    def lost(self) -> Mapping[str, int]:
        """Files that are no images, or never became whole."""
        return {"passed-over": self._passed_over}

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield images as they are complete, the oldest first; see `Source.frames`."""
        frame_id, pacer = 0, Pacer(self._rate)
        while not stop.is_set():
            for path, stamp in self._settled():
                pixels = self._read(path, stamp)
                if pixels is not None:
                    yield Frame(pixels, FrameMeta(frame_id, pacer.wait(stop)))
                    frame_id += 1
                if stop.is_set():
                    return
            stop.wait(self._poll_s)

    def close(self) -> None:
        """Do nothing: no file is held."""

    def _first(self, fact: Callable[[Slide], Fact]) -> Fact | None:
        """Return a fact of an image that is there already; None if there is none."""
        for path in sorted(self._look())[:_FILES_TRIED]:
            with suppress(CellsegError), closing(open_slide(path)) as slide:  # not whole yet
                return fact(slide)
        return None

    def _settled(self) -> list[tuple[Path, Stamp]]:
        """Return files that are as they were at the last look, and have not been taken."""
        now = self._look()
        settled = [
            (path, stamp)
            for path, stamp in now.items()
            if self._seen.get(path) == stamp and self._taken.get(path) != stamp
        ]
        self._seen = now
        return sorted(settled, key=lambda item: (item[1][1], item[0].name))

    def _look(self) -> dict[Path, Stamp]:
        found = {}
        try:
            paths = list(self._folder.iterdir())
        except OSError as error:
            raise SourceError(
                f"A folder to watch must stay there. Received: {self._folder} ({error.strerror})."
            ) from error
        for path in paths:
            if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."):
                try:
                    facts = path.stat()
                except FileNotFoundError:  # renamed meanwhile
                    continue
                if facts.st_size:
                    found[path] = (facts.st_size, facts.st_mtime_ns)
        return found

    def _read(self, path: Path, stamp: Stamp) -> NDArray[Any] | None:
        try:
            with closing(open_slide(path)) as slide:
                pixels, mpp = _pixels(slide), _mpp(slide)
        except CellsegError as error:
            self._bear(path, stamp, error)
            return None
        self._unreadable_since.pop(path, None)
        self._taken[path] = stamp
        self._pixel_size.compare(mpp)
        return pixels

    def _bear(self, path: Path, stamp: Stamp, error: CellsegError) -> None:
        """Give a file that cannot be read some time: its writer may have paused."""
        known = self._unreadable_since.get(path)
        now_s = time.monotonic()
        if known is None or known[0] != stamp:
            self._unreadable_since[path] = (stamp, now_s)
        elif now_s - known[1] >= _PATIENCE_S:
            self._taken[path] = stamp
            self._passed_over += 1
            _LOG.warning("%s: passed over: %s", path, error)


def _kind(slide: Slide) -> FrameKind:
    base = slide.levels[0]
    return (base.height_px, base.width_px, 3), slide.dtype


def _mpp(slide: Slide) -> float | None:
    return None if slide.mpp is None else math.sqrt(math.prod(slide.mpp))


def _pixels(slide: Slide) -> NDArray[Any]:
    """Read an image whole, uint8 or uint16 (H, W, 3)."""
    base = slide.levels[0]
    return slide.read_region(0, (0, 0), (base.height_px, base.width_px))
