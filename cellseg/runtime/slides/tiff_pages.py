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
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tifffile import TiffFile, TiffPage

from cellseg.errors import SlideError
from cellseg.runtime.slides.channels import RGB_NAMES, channels_error, pick_channel
from cellseg.runtime.slides.philips import clip_padding
from cellseg.runtime.slides.slide import is_evenly_reduced

if TYPE_CHECKING:
    from cellseg.runtime.slides.channels import Channel, Wanted
    from cellseg.runtime.slides.tiff_metadata import OmeImage

__all__ = [
    "FoundLevels",
    "LevelPages",
    "find_levels",
    "has_channels",
    "is_grey",
    "is_rgb",
    "page_offsets",
]

LevelPages = tuple[TiffPage, ...]
"""Pages of one level: one, or one for each of three channels."""


class FoundLevels(NamedTuple):
    """The pages of a slide, and what is read of them."""

    pages: tuple[LevelPages, ...]
    """Level by level, full resolution first."""

    channel: Channel | None = None
    """The one that was chosen; None: all."""

    sample: int | None = None
    """Where it lies in a pixel, if pages hold several channels; None: they are read whole."""

    others: tuple[str, ...] = ()
    """Images in the same file that are not read and have over a quarter of its pixels: no level,
    label or thumbnail of it."""


class _File(Protocol):
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def read(self, size: int = -1, /) -> bytes: ...


_MAX_PYRAMID_PAGES = 256
_MAX_SUBIFDS = 64
_LEAST_REDUCED = 1.4
_NUMBERS = (
    "imagewidth", "imagelength", "imagedepth", "tilewidth", "tilelength", "rowsperstrip",
    "samplesperpixel", "planarconfig", "photometric", "compression", "predictor",
)  # fmt: skip
_ONE_IMAGE_HINT = "Save the plane or the RGB picture that is to be segmented as a file of its own."
_ONE_PAGE_HINT = "Choose one by its number, as in --channel 1, or save it as a file of its own."
_GREYS, _RGB, _PALETTE, _YCBCR = (0, 1), 2, 3, 6
# Where Akoya's QPTIFF names the stain of a page; the biomarker, if it says one, is what is meant.
_STAINS = [re.compile(rf"<{tag}>([^<]{{1,80}})</{tag}>") for tag in ("Biomarker", "Name")]


def find_levels(tif: TiffFile, ome: OmeImage | None, channel: Wanted = None) -> FoundLevels:
    """Find the pages of each level, full resolution first.

    Parameters
    ----------
    tif : TiffFile
        Open file.
    ome : OmeImage, optional
        What its OME-XML says; the OME rules then hold: levels are SubIFDs.
    channel : str or int, optional
        The one to read, see `cellseg.runtime.slides.channels.pick_channel`: a page or a sample of
        each pixel.

    Returns
    -------
    FoundLevels

    Raises
    ------
    SlideError
        If the chain of pages is damaged, the file holds a stack or more channels than RGB and none
        of them is chosen, or there is no such channel.
    """
    path = str(tif.filehandle.path)
    offsets = page_offsets(tif.filehandle, path)
    if ome is not None:
        return _ome_levels(tif, ome, offsets, path, channel)
    if len(offsets) > _MAX_PYRAMID_PAGES:
        raise _stack_error(path, f"{len(offsets)} pages")
    pages = [_load(tif, offset, index) for index, offset in enumerate(offsets)]
    if tif.is_philips:
        clip_padding(pages)
    images = (tif.imagej_metadata or {}).get("images", 1) if tif.is_imagej else 1
    if images > len(pages) * pages[0].samplesperpixel:  # Bio-Formats counts red, green and blue
        raise _stack_error(path, f"an ImageJ stack of {images} without pages of their own")
    base = pages[0] if tif.is_svs else max(pages, key=_rank)
    chosen, sample, all_pages = None, None, pages
    if len(stack := _of_equal_size(base, pages)) > 1:
        if channel is None:
            what = f"{len(stack)} pages of the same size"
            raise _stack_error(path, what, hint=_ONE_PAGE_HINT)
        chosen = pick_channel(path, channel, [_stain_of(page) for page in stack])
        base, pages = stack[chosen.index], _nth_of_each_size(pages, chosen.index, len(stack))
    elif channel is not None:
        chosen = pick_channel(path, channel, names := _sample_names(base))
        sample = chosen.index if len(names) > 1 else None
    elif has_channels(base):
        raise channels_error(path, _sample_names(base))
    reduced = [page for page in pages if page is not base] + _sub_pages(tif, base)
    found = [base, *_pyramid(base, reduced)]
    others = () if tif.is_svs else _others(found, all_pages)
    return FoundLevels(tuple((page,) for page in found), chosen, sample, others)


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
        if not _is_associated(page)
        and _same_pixels(base, page)
        and _is_reduced(base, page)
        and (page.is_reduced or _is_like_a_level(base, page))
    }
    return [by_size[size] for size in sorted(by_size, reverse=True)]


def _is_like_a_level(base: TiffPage, page: TiffPage) -> bool:
    """Say whether a page that is not marked as reduced may be: else it is another picture.

    Nobody's pyramids have levels as near to each other as two square fields of view may be.
    """
    return page.is_tiled and page.imagewidth * _LEAST_REDUCED <= base.imagewidth


def _same_pixels(base: TiffPage, page: TiffPage) -> bool:
    return (
        page.is_tiled == base.is_tiled
        and page.dtype == base.dtype
        and page.samplesperpixel == base.samplesperpixel
        and (page.photometric == 3) == (base.photometric == 3)
    )


def _is_reduced(base: TiffPage, page: TiffPage) -> bool:
    """Say whether a page is smaller on both sides, and one downsample explains them."""
    if not (0 < page.imagewidth < base.imagewidth and 0 < page.imagelength < base.imagelength):
        return page.is_reduced and 1 in (page.imagewidth, page.imagelength)
    full_hw, part_hw = ((each.imagelength, each.imagewidth) for each in (base, page))
    return is_evenly_reduced(full_hw, part_hw)


def _others(levels: list[TiffPage], pages: list[TiffPage]) -> tuple[str, ...]:
    """Tell of pages that are pictures of their own, by their number from 1 on."""
    read = {(page.imagewidth, page.imagelength) for page in levels}
    least_px = levels[0].imagewidth * levels[0].imagelength // 4
    return tuple(
        f"page {page.index + 1} ({page.imagewidth} x {page.imagelength})"
        for page in pages
        if (page.imagewidth, page.imagelength) not in read
        and page.imagewidth * page.imagelength > least_px
        and not (page.is_reduced or page.is_mask or _is_associated(page))
    )


def _of_equal_size(base: TiffPage, pages: list[TiffPage]) -> list[TiffPage]:
    """Return the pages of full resolution: planes of a stack, or channels."""
    return [
        page
        for page in pages
        if (page.imagewidth, page.imagelength) == (base.imagewidth, base.imagelength)
        and not page.is_reduced
        and not page.is_mask
    ]


def _nth_of_each_size(pages: list[TiffPage], index: int, count: int) -> list[TiffPage]:
    """Return one page of each size of which there are so many: levels of one channel."""
    by_size: dict[tuple[int, int, int], list[TiffPage]] = {}
    for page in pages:
        size = page.imagewidth, page.imagelength, page.samplesperpixel
        by_size.setdefault(size, []).append(page)
    return [same[index] for same in by_size.values() if len(same) == count]


def _stain_of(page: TiffPage) -> str | None:
    found = filter(None, (pattern.search(page.description) for pattern in _STAINS))
    return next((match.group(1).strip() for match in found), None)


def _sample_names(page: TiffPage) -> tuple[str | None, ...]:
    """Return the channels that lie in each pixel of a page, without opacity."""
    if is_rgb(page):
        return RGB_NAMES
    return (None,) * (1 if is_grey(page) else page.samplesperpixel)


def is_rgb(page: TiffPage) -> bool:
    """Say whether a page's pixels are colours, once they are decoded; opacity may be with them."""
    if page.photometric == _PALETTE:
        return page.samplesperpixel == 1
    if page.photometric == _RGB and page.samplesperpixel == 4:
        return len(page.extrasamples) == 1
    return page.samplesperpixel == 3 and page.photometric in (*_GREYS, _RGB, _YCBCR)


def is_grey(page: TiffPage) -> bool:
    """Say whether a page's pixels are one value, and perhaps opacity."""
    with_alpha = page.samplesperpixel == 2 and tuple(page.extrasamples) in ((1,), (2,))
    return page.photometric in _GREYS and (page.samplesperpixel == 1 or with_alpha)


def has_channels(page: TiffPage) -> bool:
    """Say whether each sample of a page's pixels is a channel of its own."""
    return page.photometric in (*_GREYS, _RGB) and not (is_grey(page) or is_rgb(page))


def _ome_levels(
    tif: TiffFile, ome: OmeImage, offsets: list[int], path: str, wanted: Wanted
) -> FoundLevels:
    if ome.planes > 1:
        raise _stack_error(path, f"{ome.planes} planes in z or time")
    if max(ome.ifds) >= len(offsets):
        raise SlideError(
            f"{path}: the OME-XML names a page that is not there. "
            f"Received: page={max(ome.ifds)}, pages={len(offsets)}.",
            hint="The file is truncated, or part of a set of several files.",
        )
    bases = [_load(tif, offsets[index], index) for index in ome.ifds]
    names, chosen, sample = _ome_channels(ome, bases), None, None
    if wanted is not None:
        chosen = pick_channel(path, wanted, names)
        if len(bases) > 1:
            bases = [bases[chosen.index]]
        elif len(names) > 1:
            sample = chosen.index
    elif has_channels(bases[0]) or (len(bases) > 1 and not ome.is_rgb):
        raise channels_error(path, names)
    pyramids = [_pyramid(base, _sub_pages(tif, base)) for base in bases]
    return FoundLevels((tuple(bases), *zip(*pyramids, strict=False)), chosen, sample, ome.others)


def _ome_channels(ome: OmeImage, bases: list[TiffPage]) -> tuple[str | None, ...]:
    """Return the name of each channel: of each page, or of each sample of the only one."""
    if len(bases) == 1 and is_rgb(bases[0]):
        return RGB_NAMES
    count = len(bases) if len(bases) > 1 else len(_sample_names(bases[0]))
    return (*ome.channel_names, *[None] * count)[:count]


def _stack_error(path: str, what: str, hint: str = _ONE_IMAGE_HINT) -> SlideError:
    return SlideError(f"{path}: a slide must be one image. Received: {what}.", hint=hint)
