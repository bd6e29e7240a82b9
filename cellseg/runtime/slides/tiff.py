"""The TIFF family: tiled and stripped, pyramidal and flat, SVS and OME-TIFF.

tifffile reads the structure, imagecodecs the pixels; only tiles that a window touches are decoded,
and kept while the cache has room (`cellseg.runtime.slides.source_tiles`). Files that are TIFF in
name only (NDPI, SCN, BIF, Trestle's with tiles that overlap) are handed on to OpenSlide.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Literal

from cellseg.errors import SlideError
from cellseg.runtime.slides.magnification import OBJECTIVE, objective_in
from cellseg.runtime.slides.orientation import ORIENTATION, TURNED
from cellseg.runtime.slides.segments import ByteSource, LevelSegments
from cellseg.runtime.slides.slide import OTHER_IMAGES, Level, check_window, level_downsample
from cellseg.runtime.slides.source_tiles import CACHE_BYTES, SourceTiles
from cellseg.runtime.slides.tiff_metadata import disbelieved, find_mpp, read_ome, stated_mpp
from cellseg.runtime.slides.tiff_pages import find_levels, page_offsets

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffPage

    from cellseg.runtime.slides.channels import Wanted
    from cellseg.runtime.slides.slide import Slide
    from cellseg.runtime.slides.tiff_pages import LevelPages

__all__ = ["TiffSlide", "open_tiff"]

_IMAGE_MAX_PX = 64_000_000
# Where nobody listens to tifffile, Python would print its complaints between our lines.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffSlide:
    """A TIFF file as a slide.

    Parameters
    ----------
    path : Path
        The file.
    tif : TiffFile
        The same, open; needed here only.
    mpp : float, optional
        Overrides what the file says.
    channel : str or int, optional
        The only one to read, as grey: its name or number.
    cache_bytes : int
        Decoded tiles to keep, in bytes.

    Raises
    ------
    SlideError
        If the file is damaged or holds something other than one grey or RGB image, and no channel
        of it is chosen.
    """

    def __init__(
        self,
        path: Path,
        tif: TiffFile,
        mpp: float | None,
        channel: Wanted = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.path = str(path)
        first = tif.pages.first
        ome = read_ome(first.description, self.path, first.samplesperpixel)
        pages, self.channel, sample, others = find_levels(tif, ome, channel)
        described = first if tif.is_svs else pages[0][0]
        found, mpp_source = find_mpp(described, ome)
        self.mpp = found if mpp is None else (mpp, mpp)
        base = pages[0][0]
        self.levels = tuple(_level_of(base, level[0]) for level in pages)
        self.kind: Literal["slide", "image"] = _kind_of(pages)
        self.properties = _properties(tif, pages, mpp_source if mpp is None else "given")
        self.properties |= {} if self.channel is None else self.channel.properties()
        if self.mpp is None:
            self.properties |= disbelieved(stated_mpp(described, ome))
        if others:
            self.properties[OTHER_IMAGES] = ", ".join(others[:8])
        self._file = ByteSource(path)
        try:
            self._segments = [
                LevelSegments(level, self._file, f"{path}: level {index}", sample)
                for index, level in enumerate(pages)
            ]
        except BaseException:
            self._file.close()
            raise
        self.dtype = self._segments[0].dtype
        grids = [segments.grid for segments in self._segments]
        self.source = SourceTiles(self.path, grids, self.dtype, self._decode, cache_bytes)

    def read_region(self, level: int, l_yx: tuple[int, int], hw: tuple[int, int]) -> NDArray[Any]:
        """Read a window; see :meth:`cellseg.runtime.slides.slide.Slide.read_region`."""
        check_window(self, level, l_yx, hw)
        return self.source.window(level, l_yx, hw)

    def close(self) -> None:
        """Close the file and drop the decoded tiles."""
        self.source.cache.clear()
        self._file.close()

    def _decode(self, level: int, row: int, col: int) -> NDArray[Any]:
        return self._segments[level].read(row, col)


def open_tiff(path: Path, mpp: float | None = None, channel: Wanted = None) -> Slide:
    """Open a TIFF file, with OpenSlide where it is TIFF in name only.

    Raises
    ------
    SlideError
        If it cannot be read.
    """
    # tifffile does without it, and then says of every compressed tile that it cannot be decoded.
    import imagecodecs  # noqa: F401
    from tifffile import TiffFile

    try:
        with TiffFile(path) as tif:
            if not (tif.is_ndpi or tif.is_scn or tif.is_bif or _is_overlapping(tif.pages.first)):
                return TiffSlide(path, tif, mpp, channel)
    except (SlideError, OSError):
        raise
    except Exception as error:  # tifffile raises many kinds on damaged files
        with path.open("rb") as file:
            page_offsets(file, str(path))  # says what is wrong if the chain of pages is
        raise SlideError(
            f"{path}: the TIFF structure is damaged: {error}.", hint="Copy or export it again."
        ) from error
    from cellseg.runtime.slides.openslide import open_openslide

    return open_openslide(path, mpp, channel)


def _is_overlapping(page: TiffPage) -> bool:
    """Say whether Trestle's tiles repeat pixels of their neighbours: one grid is not the slide."""
    found = re.search(r"\bOverlapsXY=([\d ]*[1-9])", page.description)
    return found is not None and str(page.software).startswith("MedScan")


def _level_of(base: TiffPage, page: TiffPage) -> Level:
    full_hw, part_hw = ((p.imagelength, p.imagewidth) for p in (base, page))
    return Level(page.imagewidth, page.imagelength, level_downsample(full_hw, part_hw))


def _kind_of(pages: tuple[LevelPages, ...]) -> Literal["slide", "image"]:
    base = pages[0][0]
    is_small = base.imagewidth * base.imagelength <= _IMAGE_MAX_PX
    return "image" if len(pages) == 1 and not base.is_tiled and is_small else "slide"


def _properties(tif: TiffFile, pages: tuple[LevelPages, ...], mpp_source: str) -> dict[str, str]:
    base = pages[0][0]
    is_tiled = base.is_tiled
    objective = objective_in(tif.pages.first.description)
    orientation = base.tags.valueof(274)
    found = {
        "format": _format_of(tif),
        "vendor": _vendor_of(tif),
        "compression": getattr(base.compression, "name", str(base.compression)).lower(),
        "photometric": getattr(base.photometric, "name", str(base.photometric)).lower(),
        "samples": str(max(len(pages[0]), base.samplesperpixel)),
        "bits": str(base.bitspersample),
        "tile": f"{base.tilewidth}x{base.tilelength}"
        if is_tiled
        else f"strips of {base.rowsperstrip}",
        "byte order": "little" if tif.byteorder == "<" else "big",
        "mpp from": mpp_source,
        OBJECTIVE: objective or "",
        ORIENTATION: str(orientation) if orientation in TURNED else "",
    }
    return {name: value for name, value in found.items() if value}


def _format_of(tif: TiffFile) -> str:
    kind = "BigTIFF" if tif.is_bigtiff else "TIFF"
    if tif.is_svs:
        return f"Aperio SVS ({kind})"
    return f"OME-TIFF ({kind})" if tif.is_ome else kind


def _vendor_of(tif: TiffFile) -> str:
    if tif.is_svs:
        return "aperio"
    if tif.is_philips:
        return "philips"
    return str(tif.pages.first.software or "unknown")
