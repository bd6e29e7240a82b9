"""A recording played again: what ``--record`` kept, or what a scan left that was killed."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import SourceError
from cellseg.live.frame import Frame, FrameMeta
from cellseg.live.json_lines import read_lines
from cellseg.live.mosaic.kept import KEPT_FOLDER
from cellseg.live.sources.base import Pacer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from threading import Event

    from numpy.typing import NDArray

__all__ = ["RecordingSource"]

_LOG = logging.getLogger(__name__)
_LINES = "frames.jsonl"
_INSIDE = ("", "recording", KEPT_FOLDER)
_MOST_PACKED = 1100  # deflate makes no more of a byte


class RecordingSource:
    """Frames of a recording, in their order, with the stage and channel they were taken at.

    Parameters
    ----------
    folder : path
        Of the recording, or the result folder that holds one.
    rate : float, optional
        Frames a second; None: as fast as they are taken.
    mpp : float, optional
        Microns per pixel; None: what was recorded.

    Attributes
    ----------
    passed_over : int
        Frames whose file is gone or damaged.

    Raises
    ------
    SourceError
        If there is no recording, or no whole frame in it.
    """

    def __init__(
        self, folder: str | Path, rate: float | None = None, mpp: float | None = None
    ) -> None:
        self.name, self._rate = f"recording:{folder}", rate
        self._folder = _find(Path(folder))
        self._lines = [line for line in read_lines(self._folder / _LINES) if _is_frame(line)]
        if not self._lines:
            raise SourceError(f"A recording holds at least one frame. Received: {folder}: none.")
        self.mpp = _known_mpp(self._lines[0]) if mpp is None else mpp
        self.passed_over = 0

    @property
    def frame_kind(self) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
        """That of the first frame."""
        pixels = self._read(self._lines[0])
        return None if pixels is None else (pixels.shape, pixels.dtype)

    @property
    def lost(self) -> Mapping[str, int]:
        """Frames whose file is gone or damaged."""
        return {"passed-over": self.passed_over}

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield the frames; see `Source.frames`."""
        pacer = Pacer(self._rate)
        for line in self._lines:
            pixels = self._read(line)
            if pixels is None:
                self.passed_over += 1
                continue
            due_ns = pacer.wait(stop)
            if stop.is_set():
                return
            yield Frame(pixels, FrameMeta(line["id"], due_ns, _stage(line), line.get("channel")))

    def close(self) -> None:
        """Do nothing: no file is held."""

    def _read(self, line: dict[str, Any]) -> NDArray[Any] | None:
        path = self._folder / line["frame"]
        try:
            return _pixels(path)
        except Exception as error:  # tifffile and NumPy raise many kinds on damaged files
            _LOG.warning("%s: passed over: %s", path, error)
            return None


def _find(folder: Path) -> Path:
    """Return the folder that holds the frames, in a recording or in a folder of results."""
    for name in _INSIDE:
        if (folder / name / _LINES).is_file():
            return folder / name
    raise SourceError(
        f"A recording is a folder with {_LINES} in it. Received: {folder}.",
        hint="`cellseg-cli live SOURCE --record -o OUT` makes one in OUT/<name of source>/.",
    )


def _is_frame(line: dict[str, Any]) -> bool:
    """Say whether a line tells of a frame: its file and its number."""
    return isinstance(line.get("frame"), str) and isinstance(line.get("id"), int)


def _stage(line: dict[str, Any]) -> tuple[float, float, float] | None:
    """Return the place of a frame; None where it has none, or a driver gave no number."""
    match line.get("stage_xyz_um"):
        case [x, y, z] if _is_number(x) and _is_number(y):
            return x, y, z if _is_number(z) else 0.0
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _known_mpp(line: dict[str, Any]) -> float | None:
    mpp: Any = line.get("mpp")
    return float(mpp) if _is_number(mpp) and mpp > 0 else None


def _pixels(path: Path) -> NDArray[Any]:
    if path.suffix == ".npy":
        return np.array(np.load(path, mmap_mode="r"))  # no more than there is of it
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        most_packed = 1 if page.compression == tifffile.COMPRESSION.NONE else _MOST_PACKED
        if not 0 < page.nbytes <= most_packed * path.stat().st_size:
            raise ValueError(f"it cannot hold {page.nbytes} bytes of pixels")
        return np.asarray(page.asarray())
