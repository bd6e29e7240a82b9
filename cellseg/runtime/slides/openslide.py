"""Vendors' formats through OpenSlide: NDPI, MRXS, SCN, VMS, BIF, DICOM (the ``[wsi]`` extra).

OpenSlide places windows in level-0 pixels, so where a level's downsample is not whole, a window at
an odd place is shifted by part of a pixel. To make what is read independent of the window, a level
is read in blocks on a fixed grid, which are also what the cache keeps.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellseg.errors import DOCTOR_HINT, SlideError
from cellseg.runtime.slides.channels import RGB_NAMES, pick_channel
from cellseg.runtime.slides.magnification import OBJECTIVE
from cellseg.runtime.slides.slide import Level, check_window, level_downsample, rgb_from_samples
from cellseg.runtime.slides.source_tiles import CACHE_BYTES, SourceTiles, TileGrid, UndecodableError
from cellseg.runtime.slides.tiff_metadata import disbelieved, plausible_mpp

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.slides.channels import Wanted
    from cellseg.runtime.slides.slide import Slide

__all__ = ["OpenSlideSlide", "open_openslide"]

_BLOCK_PX = 1024
_MISSING_HINT = "pip install 'cellseg[wsi]'"


class OpenSlideSlide:
    """A slide that OpenSlide reads.

    Parameters
    ----------
    path : Path
        The file.
    mpp : float, optional
        Overrides what the file says.
    channel : str or int, optional
        The only colour to read, as grey.
    cache_bytes : int
        Decoded blocks to keep, in bytes.

    Raises
    ------
    SlideError
        If the extra is not installed, OpenSlide cannot open the file, or there is no such channel.
    """

    kind: Literal["slide", "image"] = "slide"

    def __init__(
        self,
        path: Path,
        mpp: float | None = None,
        channel: Wanted = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.path = str(path)
        self.channel = None if channel is None else pick_channel(self.path, channel, RGB_NAMES)
        self._library = _import_openslide(path)
        self._lock = Lock()
        self._slide = self._open(path)
        sizes_wh = self._slide.level_dimensions
        self._downsamples: tuple[float, ...] = self._slide.level_downsamples
        full_hw = (sizes_wh[0][1], sizes_wh[0][0])
        self.levels = tuple(Level(w, h, level_downsample(full_hw, (h, w))) for w, h in sizes_wh)
        stated = _mpp_of(self._slide.properties)
        found = stated if plausible_mpp(stated) else None
        self.mpp = found if mpp is None else (mpp, mpp)
        self.dtype = np.dtype(np.uint8)
        self.properties = _properties(self._slide.properties, found, mpp)
        self.properties |= disbelieved(stated) if self.mpp is None else {}
        self.properties |= {} if self.channel is None else self.channel.properties()
        self._background = _background(self._slide.properties)
        grids = [TileGrid(h, w, _BLOCK_PX, _BLOCK_PX) for w, h in sizes_wh]
        self.source = SourceTiles(self.path, grids, self.dtype, self._read_block, cache_bytes)

    def read_region(self, level: int, l_yx: tuple[int, int], hw: tuple[int, int]) -> NDArray[Any]:
        """Read a window; see :meth:`cellseg.runtime.slides.slide.Slide.read_region`."""
        check_window(self, level, l_yx, hw)
        return self.source.window(level, l_yx, hw)

    def close(self) -> None:
        """Close the file and drop the decoded blocks."""
        self.source.cache.clear()
        self._slide.close()

    def _open(self, path: Path) -> Any:
        try:
            return self._library.OpenSlide(path)
        except self._library.OpenSlideError as error:
            raise SlideError(
                f"{path}: OpenSlide cannot open it: {error}.",
                hint="Check that the file and, for MRXS, VMS and DICOM, the files beside it are "
                "complete. If they are, export it as OME-TIFF, with QuPath or bfconvert: of some "
                "formats, CZI for one, OpenSlide reads some kinds only.",
            ) from error

    def _read_block(self, level: int, row: int, col: int) -> NDArray[Any]:
        y0, x0 = row * _BLOCK_PX, col * _BLOCK_PX
        size_wh = self.source.grids[level].clip(row, col)[::-1]
        l0_xy = tuple(round(v * self._downsamples[level]) for v in (x0, y0))
        slide = self._slide
        try:
            rgba = slide.read_region(l0_xy, level, size_wh)
        except self._library.OpenSlideError:
            rgba = self._read_again(slide, l0_xy, level, size_wh)
        rgb = _composite(np.asarray(rgba), self._background)
        return rgb if self.channel is None else rgb_from_samples(rgb[..., self.channel.index])

    def _read_again(self, spent: Any, l0_xy: tuple[int, ...], level: int, size_wh: Any) -> Any:
        """Read with a handle of our own: after an error a handle fails for all that use it.

        The spent one is dropped, not closed: another thread may be inside it.
        """
        with self._lock:
            if self._slide is spent:
                self._slide = self._library.OpenSlide(self.path)
        try:
            with self._library.OpenSlide(self.path) as own:
                return own.read_region(l0_xy, level, size_wh)
        except self._library.OpenSlideError as error:
            raise UndecodableError(str(error)) from error


def open_openslide(path: Path, mpp: float | None = None, channel: Wanted = None) -> Slide:
    """Open a slide through OpenSlide.

    Raises
    ------
    SlideError
        If the ``[wsi]`` extra is not installed or the file cannot be read.
    """
    return OpenSlideSlide(path, mpp, channel)


def _import_openslide(path: Path) -> Any:
    try:
        import openslide
    except ImportError as error:
        raise SlideError(
            f"{path}: this format needs OpenSlide. Received: {error}.",
            hint=_MISSING_HINT if error.name == "openslide" else DOCTOR_HINT,
        ) from error
    return openslide


def _mpp_of(properties: Any) -> tuple[float, float] | None:
    try:
        return float(properties["openslide.mpp-x"]), float(properties["openslide.mpp-y"])
    except (KeyError, ValueError):
        return None


def _properties(given: Any, found: tuple[float, float] | None, mpp: float | None) -> dict[str, str]:
    size = [given.get(f"openslide.level[0].tile-{side}") for side in ("width", "height")]
    objective = given.get("openslide.objective-power")
    return {
        "format": f"OpenSlide {given.get('openslide.vendor', 'unknown')}",
        "vendor": str(given.get("openslide.vendor", "unknown")),
        "compression": "unknown",
        "samples": "3",
        "bits": "8",
        "tile": "x".join(size) if all(size) else "unknown",
        "mpp from": "given" if mpp is not None else "OpenSlide properties" if found else "none",
    } | ({OBJECTIVE: str(objective)} if objective else {})


def _background(properties: Any) -> NDArray[np.uint8]:
    """Colour of what was not scanned."""
    text = properties.get("openslide.background-color", "ffffff")
    return np.frombuffer(bytes.fromhex(text), np.uint8)


def _composite(rgba: NDArray[np.uint8], background: NDArray[np.uint8]) -> NDArray[np.uint8]:
    colour, opacity = rgba[..., :3], rgba[..., 3:]
    if (opacity == 255).all():
        return np.ascontiguousarray(colour)
    wide, cover = colour.astype(np.uint32), opacity.astype(np.uint32)
    mixed = (wide * cover + background * (255 - cover) + 127) // 255
    return np.asarray(mixed, np.uint8)
