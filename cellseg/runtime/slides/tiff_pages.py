"""Which pages of a TIFF file are the levels of its pyramid.

A file is a chain of pages (IFDs), and a page can have a chain of its own (SubIFDs). A pyramid lies
in either. Label, macro and thumbnail lie there too, and are told apart by what they are::

    page 0   40000 x 30000  tiles   <- level 0: the largest tiled page
    page 1     768 x 574    strips     thumbnail: stored otherwise
    page 2   10000 x 7500   tiles   <- level 1: same shape, whole pixels apart, same kind of pixels
    page 3     387 x 463    strips     label

The chain is walked here, not by tifffile, because a damaged file can make it endless.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Protocol

from tifffile import TiffFile, TiffPage

from cellseg.errors import SlideError
from cellseg.runtime.slides.rgb_channels import channels_error

if TYPE_CHECKING:
    from cellseg.runtime.slides.tiff_metadata import OmeImage

__all__ = ["LevelPages", "find_levels", "page_offsets"]

LevelPages = tuple[TiffPage, ...]
"""Pages of one level: one, or one for each of three channels."""


class _File(Protocol):
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def read(self, size: int = -1, /) -> bytes: ...


_MAX_PYRAMID_PAGES = 256
_MAX_SUBIFDS = 64
_NUMBERS = (
    "imagewidth", "imagelength", "imagedepth", "tilewidth", "tilelength", "rowsperstrip",
    "samplesperpixel", "planarconfig", "photometric", "compression", "predictor",
)  # fmt: skip
_ONE_IMAGE_HINT = "Save the plane or the RGB picture that is to be segmented as a file of its own."


def find_levels(tif: TiffFile, ome: OmeImage | None) -> tuple[LevelPages, ...]:
    """Find the pages of each level, full resolution first.

    Parameters
    ----------
    tif : TiffFile
        Open file.
    ome : OmeImage, optional
        What its OME-XML says; the OME rules then hold: levels are SubIFDs.

    Returns
    -------
    tuple of tuple of TiffPage
        Level by level.

    Raises
    ------
    SlideError
        If the chain of pages is damaged, or the file holds a stack or more channels than RGB.
    """
    path = str(tif.filehandle.path)
    offsets = page_offsets(tif.filehandle, path)
    if ome is not None:
        return _ome_levels(tif, ome, offsets, path)
    if len(offsets) > _MAX_PYRAMID_PAGES:
        raise _stack_error(path, f"{len(offsets)} pages")
    if tif.is_imagej and (tif.imagej_metadata or {}).get("images", 1) > 1:
        raise _stack_error(path, f"an ImageJ stack of {(tif.imagej_metadata or {})['images']}")
    pages = [_load(tif, offset, index) for index, offset in enumerate(offsets)]
    base = pages[0] if tif.is_svs else max(pages, key=_rank)
    _refuse_stack(base, pages, path)
    reduced = [page for page in pages if page is not base] + _sub_pages(tif, base)
    return tuple((page,) for page in [base, *_pyramid(base, reduced)])


def page_offsets(file: _File, path: str) -> list[int]:
    """Walk the chain of pages and return where each begins.

    Raises
    ------
    SlideError
        If the header is damaged, the chain leaves the file, or it comes back to itself.
    """
    file.seek(0)
    order = {b"II": "<", b"MM": ">"}.get(file.read(2), "<")
    big = struct.unpack(f"{order}H", file.read(2))[0] == 43
    count_format, entry_bytes, next_format = ("Q", 20, "Q") if big else ("H", 12, "I")
    file.seek(8 if big else 4)
    found: list[int] = []
    seen: set[int] = set()
    offset = _read_number(file, order + next_format, path)
    while offset:
        if offset in seen:
            raise SlideError(
                f"{path}: the chain of pages runs in a circle. "
                f"Received: page {len(found)} begins at byte {offset}, as an earlier one does.",
                hint="The file is damaged: copy or export it again.",
            )
        seen.add(offset)
        found.append(offset)
        file.seek(offset)
        entries = _read_number(file, order + count_format, path)
        file.seek(entries * entry_bytes, 1)
        offset = _read_number(file, order + next_format, path)
    if not found:
        raise SlideError(f"{path}: the TIFF file holds no page.")
    return found


def _read_number(file: _File, layout: str, path: str) -> int:
    size = struct.calcsize(layout)
    data = file.read(size)
    if len(data) < size:
        raise SlideError(
            f"{path}: the file is truncated: a page directory lies past its end.",
            hint="Copy or export it again.",
        )
    number: int = struct.unpack(layout, data)[0]
    return number


def _load(tif: TiffFile, offset: int, index: int | tuple[int, int]) -> TiffPage:
    tif.filehandle.seek(offset)
    page = TiffPage(tif, index=index)
    for name in _NUMBERS:
        if not isinstance(getattr(page, name), int):
            raise SlideError(
                f"{tif.filehandle.path}: page {index}: {name} must be one whole number. "
                f"Received: {name}={str(getattr(page, name))[:60]}.",
                hint="The file is damaged: copy or export it again.",
            )
    if (322 in page.tags or 323 in page.tags) and not page.is_tiled:
        # Read as a page of strips, it would no longer be the slide, and a smaller page would.
        raise SlideError(
            f"{tif.filehandle.path}: page {index}: a tile must have a size. "
            f"Received: tile={page.tilewidth}x{page.tilelength}.",
            hint="The file is damaged: copy or export it again.",
        )
    return page


def _rank(page: TiffPage) -> tuple[bool, bool, int]:
    return not _is_associated(page), page.is_tiled, page.imagewidth * page.imagelength


def _is_associated(page: TiffPage) -> bool:
    """Say whether a page calls itself a label, macro or thumbnail."""
    return re.search(r"\b(label|macro|thumbnail)\b", page.description[:500].lower()) is not None


def _sub_pages(tif: TiffFile, page: TiffPage) -> list[TiffPage]:
    offsets = (page.subifds or ())[:_MAX_SUBIFDS]
    return [_load(tif, offset, (page.index, index)) for index, offset in enumerate(offsets)]


def _pyramid(base: TiffPage, pages: list[TiffPage]) -> list[TiffPage]:
    """Pick the reduced versions of a page, largest first, each size once."""
    by_size = {
        (page.imagewidth, page.imagelength): page
        for page in reversed(pages)
        if not _is_associated(page) and _same_pixels(base, page) and _is_reduced(base, page)
    }
    return [by_size[size] for size in sorted(by_size, reverse=True)]


def _same_pixels(base: TiffPage, page: TiffPage) -> bool:
    return (
        page.is_tiled == base.is_tiled
        and page.dtype == base.dtype
        and page.samplesperpixel == base.samplesperpixel
        and (page.photometric == 3) == (base.photometric == 3)
    )


def _is_reduced(base: TiffPage, page: TiffPage) -> bool:
    """Say whether one downsample explains both sides, each to within a pixel."""
    if not (0 < page.imagewidth < base.imagewidth and 0 < page.imagelength < base.imagelength):
        return page.is_reduced and 1 in (page.imagewidth, page.imagelength)
    sides = ((base.imagewidth, page.imagewidth), (base.imagelength, page.imagelength))
    lowest = max(full / (part + 1) for full, part in sides)
    highest = min(full / max(part - 1, 0.5) for full, part in sides)
    return lowest <= highest


def _refuse_stack(base: TiffPage, pages: list[TiffPage], path: str) -> None:
    same = [
        page
        for page in pages
        if (page.imagewidth, page.imagelength) == (base.imagewidth, base.imagelength)
        and not page.is_reduced
        and not page.is_mask
    ]
    if len(same) > 1:
        raise _stack_error(path, f"{len(same)} pages of the same size")


def _ome_levels(
    tif: TiffFile, ome: OmeImage, offsets: list[int], path: str
) -> tuple[LevelPages, ...]:
    if ome.planes > 1:
        raise _stack_error(path, f"{ome.planes} planes in z or time")
    is_one = len(ome.ifds) == 1 and ome.channels in (1, 3, 4)
    if not is_one and not (len(ome.ifds) == 3 and ome.is_rgb):
        raise channels_error(path, ome.channels, ome.channel_names)
    if max(ome.ifds) >= len(offsets):
        raise SlideError(
            f"{path}: the OME-XML names a page that is not there. "
            f"Received: page={max(ome.ifds)}, pages={len(offsets)}.",
            hint="The file is truncated, or part of a set of several files.",
        )
    bases = [_load(tif, offsets[index], index) for index in ome.ifds]
    pyramids = [_pyramid(base, _sub_pages(tif, base)) for base in bases]
    return (tuple(bases), *zip(*pyramids, strict=False))


def _stack_error(path: str, what: str) -> SlideError:
    return SlideError(f"{path}: a slide must be one image. Received: {what}.", hint=_ONE_IMAGE_HINT)
