"""Philips' TIFF: its levels are stored in whole tiles and show less than they store.

Of a level 0 of 5120 px, ten tiles of 512, level 3 shows 640 px and stores 1024. The sizes of the
pages would make that a downsample of 5; the spacing of the pixels, which the XML has for each
level, makes it 8, and the rest of the last tiles is padding. OpenSlide reads such files so, too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tifffile import TiffPage

__all__ = ["clip_padding"]

_SPACING = re.compile(
    r'"PixelDataRepresentation".*?"DICOM_PIXEL_SPACING"[^>]*>[^<\d]*([\d.eE-]+)[^<\d]+([\d.eE-]+)',
    re.DOTALL,
)


def clip_padding(pages: list[TiffPage]) -> None:
    """Give each level of a Philips file the size of what it shows, in place.

    Parameters
    ----------
    pages : list of TiffPage
        All of the file; those that are tiled are its levels, full resolution first.
    """
    levels = [page for page in pages if page.is_tiled]
    downsamples = _downsamples(pages[0].description, len(levels))
    for page, downsample in zip(levels[1:], downsamples[1:], strict=True):
        _clip(
            page,
            max(1, int(levels[0].imagelength / downsample)),
            max(1, int(levels[0].imagewidth / downsample)),
        )


def _downsamples(xml: str, count: int) -> list[float]:
    """Return the level-0 pixels a pixel of each level; powers of 2 where the XML does not say."""
    try:
        spacings = [(float(y), float(x)) for y, x in _SPACING.findall(xml)]
    except ValueError:
        spacings = []
    if len(spacings) != count or not all(y > 0 and x > 0 for y, x in spacings):
        return [2.0**level for level in range(count)]
    y0, x0 = spacings[0]
    # They are written with six digits, and whole.
    return [float(round((y / y0 + x / x0) / 2)) for y, x in spacings]


def _clip(page: TiffPage, length: int, width: int) -> None:
    """Cut a page down to a size, and its tables to the tiles that are left."""
    stored = (-(-page.imagelength // page.tilelength), -(-page.imagewidth // page.tilewidth))
    page.imagelength = min(page.imagelength, length)
    page.imagewidth = min(page.imagewidth, width)
    rows, cols = -(-page.imagelength // page.tilelength), -(-page.imagewidth // page.tilewidth)
    if (rows, cols) == stored or len(page.dataoffsets) != stored[0] * stored[1]:
        return  # tables that do not fit are refused where tiles are read
    for name in ("dataoffsets", "databytecounts"):
        table = np.reshape(getattr(page, name), stored)[:rows, :cols]
        setattr(page, name, tuple(table.ravel().tolist()))
