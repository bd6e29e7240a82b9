"""Tiles and strips of one TIFF level: from bytes in the file to RGB.

tifffile knows the codecs, tables and predictors of a page; this file knows which bytes to give it,
may do so from many threads at once, and turns what comes back into RGB.

Strips are tiles as wide as the image. An uncompressed page is cut into bands of its own
(``_BAND_ROWS``), whatever its strips, so that a window never costs the whole image.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import SlideError
from cellseg.runtime.slides.jpeg_check import jpeg_fault
from cellseg.runtime.slides.slide import rgb_from_samples, row_strips
from cellseg.runtime.slides.source_tiles import TileGrid, UndecodableError
from cellseg.runtime.slides.tiff_pages import has_channels, is_grey, is_rgb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from tifffile import TiffPage

    from cellseg.runtime.slides.slide import AlphaKind
    from cellseg.runtime.slides.tiff_pages import LevelPages

__all__ = ["ByteSource", "LevelSegments", "PageSegments"]

_BAND_ROWS = 256
_MAX_SEGMENT_BYTES = 512 << 20
_MAX_PIXELS = 1 << 40
_ALPHA: dict[tuple[int, ...], AlphaKind] = {
    (0,): "ignore",
    (1,): "premultiplied",
    (2,): "straight",
}
_JPEG = 7
_JPEG2000_YCBCR, _JPEG2000_LOSSY = 33003, 33004
_BIO_FORMATS = "OME Bio-Formats"
_IMAGE_CODECS_WITH_RGB = frozenset({6, 7, 33003, 33004, 33005, 34712, 34892, 33007, 50001})
_TILE_HINT = "Convert it first: vips tiffsave IN.tif OUT.tif --tile --pyramid --bigtiff."


class ByteSource:
    """Bytes of a file by offset, for many threads at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = Lock()
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, offset: int, count: int) -> bytes:
        """Read ``count`` bytes, fewer at the end of the file."""
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), count, offset)
        with self._lock:  # Windows has no pread
            self._file.seek(offset)
            return self._file.read(count)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class PageSegments:
    """Decoded samples of one page.

    Parameters
    ----------
    page : TiffPage
        The page; its tables of offsets are taken over (they can be large).
    source : ByteSource
        The file.
    name : str
        ``path: level n`` for messages.
    sample : int, optional
        The only sample of each pixel to read, of a page that holds several channels.

    Raises
    ------
    SlideError
        If the page's pixels are of a kind that cannot be read, its size is absurd, its tables do
        not fit that size, or a tile lies past the end of the file.
    """

    def __init__(
        self, page: TiffPage, source: ByteSource, name: str, sample: int | None = None
    ) -> None:
        self._source, self._name = source, name
        _check_page(page, name, is_chosen=sample is not None)
        self._planes = page.samplesperpixel if page.planarconfig == 2 else 1
        self._contiguous_samples = page.samplesperpixel // self._planes
        self._wanted, self._kept = range(self._planes), slice(None)
        if sample is not None:
            one = slice(sample, sample + 1)
            # Where channels lie apart, the others are not even decoded.
            if self._planes > 1:
                self._wanted = self._wanted[one]
            else:
                self._kept = one
        self._dtype = np.dtype(page.dtype or np.uint8)
        self._stored = self._dtype.newbyteorder(page.parent.byteorder)
        self._tables = page.jpegtables
        self._is_jpeg = page.compression == _JPEG
        is_ycbcr = _is_ycbcr(page)
        if self._is_jpeg and self._planes > 1 and page.photometric == 6:
            from tifffile import PHOTOMETRIC

            page.photometric = PHOTOMETRIC.RGB  # or tifffile, which leaves planes alone, gives up
        self._decode = page.decode
        self._offsets = np.asarray(page.dataoffsets, np.int64)
        self._counts = np.asarray(page.databytecounts, np.int64)
        page.dataoffsets = page.databytecounts = ()
        self.is_banded = _is_one_run(page, self._offsets, self._counts)
        self.grid = _grid_of(page, self.is_banded, name)
        self._check_tables()
        self._finish = _rgb_from_ycbcr if is_ycbcr else _finisher(page)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all segments in the file."""
        return int(self._counts.sum())

    def is_sparse(self, row: int, col: int) -> bool:
        """Say whether a tile was never written."""
        return not self.is_banded and int(self._counts[row * self.grid.cols + col]) == 0

    def read(self, row: int, col: int) -> NDArray[Any] | None:
        """Read and decode a tile.

        Returns
        -------
        uint8 or uint16, shape (h, w, samples), or None
            Clipped to the image; None for a tile that was never written.

        Raises
        ------
        UndecodableError
            If its bytes are missing or damaged.
        """
        if self.is_sparse(row, col):
            return None
        h, w = self.grid.clip(row, col)
        try:
            samples = self._read_band(row) if self.is_banded else self._read_planes(row, col)
            if samples.shape[0] < h or samples.shape[1] < w or samples.dtype != self._dtype:
                raise ValueError(
                    f"it holds {samples.shape[:2]} {samples.dtype}, not {(h, w)} {self._dtype}"
                )
            return self._finish(samples[:h, :w, self._kept])
        except Exception as error:  # each codec has exceptions of its own
            raise UndecodableError(str(error), self._offset_of(row, col)) from error

    def _read_planes(self, row: int, col: int) -> NDArray[Any]:
        index = row * self.grid.cols + col
        step = self.grid.rows * self.grid.cols
        planes = [self._decode_one(index + plane * step) for plane in self._wanted]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)

    def _decode_one(self, index: int) -> NDArray[Any]:
        data = self._bytes(int(self._offsets[index]), int(self._counts[index]))
        if self._is_jpeg and (fault := jpeg_fault(data, self._tables)) is not None:
            raise ValueError(fault)
        keywords = {} if self._tables is None else {"jpegtables": self._tables}
        decoded = self._decode(data, index, **keywords)[0]
        if decoded is None:
            raise ValueError("it holds no data")
        samples: NDArray[Any] = decoded[0]
        # Fax codecs give bytes of 0 and 1, the others bits.
        return samples.astype(bool) if self._dtype == np.bool_ else samples

    def _read_band(self, row: int) -> NDArray[Any]:
        rows, width = self.grid.clip(row, 0)
        row_bytes = width * self._contiguous_samples * self._stored.itemsize
        plane_bytes = self.grid.height_px * row_bytes
        start = int(self._offsets[0]) + row * self.grid.tile_h * row_bytes
        planes = [
            np.frombuffer(self._bytes(start + plane * plane_bytes, rows * row_bytes), self._stored)
            .reshape(rows, width, self._contiguous_samples)
            .astype(self._stored.newbyteorder("="), copy=False)
            for plane in self._wanted
        ]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)

    def _bytes(self, offset: int, count: int) -> bytes:
        data = self._source.read(offset, count)
        if len(data) < count:
            raise ValueError(f"the file ends {count - len(data)} bytes too early")
        return data

    def _check_tables(self) -> None:
        """Refuse what can be seen to be damaged before anything is read."""
        if self.is_banded:
            return
        expected = self.grid.rows * self.grid.cols * self._planes
        if not len(self._offsets) == len(self._counts) == expected:
            raise SlideError(
                f"{self._name}: its tables do not fit its size. Received: "
                f"offsets={len(self._offsets)}, byte counts={len(self._counts)}, "
                f"tiles={expected}.",
                hint="The file is damaged: copy or export it again.",
            )
        ends = self._offsets + self._counts
        past = np.flatnonzero((ends > self._source.size) & (self._counts > 0))
        if past.size:
            row, col = divmod(int(past[0]) % (self.grid.rows * self.grid.cols), self.grid.cols)
            raise SlideError(
                f"{self._name}: the file is truncated: {past.size} of {expected} tiles lie past "
                f"its end, the first at row {row}, column {col}. "
                f"Received: file size={self._source.size} bytes.",
                hint="Copy or export it again.",
            )

    def _offset_of(self, row: int, col: int) -> int:
        """Where a tile's first bytes lie in the file."""
        if not self.is_banded:
            return int(self._offsets[row * self.grid.cols + col])
        row_bytes = self.grid.width_px * self._contiguous_samples * self._stored.itemsize
        return int(self._offsets[0]) + row * self.grid.tile_h * row_bytes


class LevelSegments:
    """RGB tiles of one level, from one page or from one page a channel.

    Parameters
    ----------
    pages : tuple of TiffPage
        Of the level.
    source : ByteSource
        The file.
    name : str
        For messages.
    sample : int, optional
        The only sample of each pixel, or colour, to show; as grey.
    """

    def __init__(
        self, pages: LevelPages, source: ByteSource, name: str, sample: int | None = None
    ) -> None:
        self._alpha = _ALPHA.get(tuple(pages[0].extrasamples), "ignore")
        # Colours are picked when they are decoded: a palette has none before, and opacity counts.
        self._colour = sample if is_rgb(pages[0]) else None
        of_pixel = sample if self._colour is None else None
        self._pages = [PageSegments(page, source, name, of_pixel) for page in pages]
        self.grid = self._pages[0].grid
        self.dtype = _dtype_of(pages[0])
        is_dark = has_channels(pages[0]) or (
            pages[0].samplesperpixel == 1 and pages[0].photometric in (0, 1)
        )
        self._fill = 0 if is_dark else np.iinfo(self.dtype).max
        if any(page.grid != self.grid for page in self._pages):
            raise SlideError(f"{name}: its channels differ in size or tiling.")

    @property
    def stored_bytes(self) -> int:
        """Bytes of the level in the file."""
        return sum(page.stored_bytes for page in self._pages)

    def read(self, row: int, col: int) -> NDArray[Any]:
        """Read a tile as RGB, shape (h, w, 3), clipped to the image; never written: background."""
        channels = [page.read(row, col) for page in self._pages]
        if len(channels) == 1 and channels[0] is not None:
            rgb = rgb_from_samples(channels[0], self._alpha)
            return rgb if self._colour is None else rgb_from_samples(rgb[..., self._colour])
        shape = (*self.grid.clip(row, col), 3)
        rgb = np.full(shape, self._fill, self.dtype)
        for index, channel in enumerate(channels):
            if channel is not None:
                rgb[..., index] = channel[..., 0]
        return rgb


def _check_page(page: TiffPage, name: str, *, is_chosen: bool) -> None:
    """Refuse pages whose pixels or sizes cannot be handled, before anything is allocated."""
    if page.imagewidth < 1 or page.imagelength < 1:
        raise SlideError(f"{name}: the page has no size; the file is damaged.")
    if page.imagewidth * page.imagelength > _MAX_PIXELS or page.imagedepth > 1:
        raise SlideError(
            f"{name}: an image must be flat and below a million megapixels. Received: "
            f"width={page.imagewidth}, height={page.imagelength}, depth={page.imagedepth}."
        )
    if page.dtype not in (np.uint8, np.uint16, np.bool_):
        raise SlideError(
            f"{name}: pixels must be unsigned integers of at most 16 bits. "
            f"Received: dtype={page.dtype}, bits={page.bitspersample}.",
            hint="Save it with 8 or 16 bits a sample, its values from 0 up, for example in Fiji: "
            "Image > Type > 16-bit, then File > Save As > Tiff.",
        )
    if not (_is_known_colour(page) or (is_chosen and has_channels(page))):
        raise SlideError(
            f"{name}: pixels must be grey, RGB, RGBA or palette. Received: "
            f"photometric={_name_of(page.photometric)}, samples={page.samplesperpixel}, "
            f"compression={_name_of(page.compression)}.",
            hint="Save the image as RGB (vips colourspace IN.tif OUT.tif srgb), or the channel "
            "that is to be segmented as grey.",
        )


def _name_of(code: int) -> str:
    """Name a code as tifffile does, where it knows it."""
    return str(getattr(code, "name", code)).lower()


def _is_known_colour(page: TiffPage) -> bool:
    if page.photometric == 3 and page.colormap is None:
        return False
    if page.photometric == 6 and page.compression not in _IMAGE_CODECS_WITH_RGB:
        return False
    return is_grey(page) or is_rgb(page)


def _is_one_run(page: TiffPage, offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> bool:
    """Say whether a page's samples lie raw and in order: bands of any height can be read."""
    plain = page.compression == 1 and page.predictor == 1 and page.fillorder == 1
    if page.is_tiled or not plain or page.bitspersample not in (8, 16) or not offsets.size:
        return False
    row_bytes = page.imagewidth * (page.samplesperpixel if page.planarconfig == 1 else 1)
    strip_bytes = page.rowsperstrip * row_bytes * page.bitspersample // 8
    is_full = (counts[:-1] == strip_bytes).all()  # some writers pad each strip to an even size
    follow = len(offsets) == len(counts) and (offsets[1:] == (offsets + counts)[:-1]).all()
    return bool(follow and is_full)


def _grid_of(page: TiffPage, is_banded: bool, name: str) -> TileGrid:
    tile_h, tile_w = page.tilelength, page.tilewidth
    if not page.is_tiled:
        tile_w = page.imagewidth
        tile_h = min(_BAND_ROWS, page.imagelength) if is_banded else page.rowsperstrip
    itemsize = page.dtype.itemsize if page.dtype else 1
    size = tile_h * tile_w * page.samplesperpixel * itemsize
    if not 0 < size <= _MAX_SEGMENT_BYTES:
        raise SlideError(
            f"{name}: a tile or strip must decode to at most "
            f"{_MAX_SEGMENT_BYTES >> 20} MB. Received: tile={tile_w}x{tile_h}, {size >> 20} MB.",
            hint=_TILE_HINT,
        )
    return TileGrid(page.imagelength, page.imagewidth, tile_h, tile_w)


def _dtype_of(page: TiffPage) -> np.dtype[Any]:
    is_wide = page.dtype == np.uint16 and page.photometric != 3
    return np.dtype(np.uint16 if is_wide else np.uint8)


def _finisher(page: TiffPage) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return what still has to happen to decoded samples: colours, bit depth, polarity."""
    if page.photometric == 3:
        return _looked_up(_palette(page))
    bits = int(page.bitspersample)
    if bits in (8, 16) and page.photometric != 0:
        return lambda samples: samples
    look_up = _looked_up(_ramp(bits, inverted=page.photometric == 0))
    if page.photometric != 0 or page.samplesperpixel == 1:
        return look_up
    opacity = _looked_up(_ramp(bits, inverted=False))  # white may be 0, but transparent is, too
    return lambda samples: np.concatenate(
        [look_up(samples[..., :1]), opacity(samples[..., 1:])], axis=2
    )


def _is_ycbcr(page: TiffPage) -> bool:
    """Say whether decoded samples are luma and chroma, for us to make RGB of.

    Nothing in a JPEG 2000 stream says so; who wrote it does. Aperio's older tiles are, and what
    libvips writes (it names no software), which calls it RGB. Bio-Formats uses the marks of both
    over samples of RGB, and says YCbCr of planes of JPEG, each of them a grey picture, too.
    """
    software = str(page.parent.pages.first.software)
    if software.startswith(_BIO_FORMATS) or page.samplesperpixel < 3:
        return False
    if page.planarconfig == 2:
        return bool(page.compression == _JPEG and page.photometric == 6)
    is_libvips = page.compression == _JPEG2000_LOSSY and page.samplesperpixel == 3 and not software
    return bool(page.compression == _JPEG2000_YCBCR or is_libvips)


def _looked_up(table: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def look_up(samples: NDArray[Any]) -> NDArray[Any]:
        keys = samples[..., 0] if table.ndim == 2 else samples
        found = np.empty((*keys.shape, *table.shape[1:]), table.dtype)
        for rows in row_strips(keys):  # eight bytes a key
            found[rows] = table[keys[rows].astype(np.intp)]
        return found

    return look_up


def _palette(page: TiffPage) -> NDArray[np.uint8]:
    colormap = np.asarray(page.colormap)
    # Some writers fill the 16-bit table with 8-bit values.
    shift = 8 if colormap.max(initial=0) > 255 else 0
    return np.ascontiguousarray((colormap >> shift).astype(np.uint8).T)


def _ramp(bits: int, *, inverted: bool) -> NDArray[Any]:
    """Spread samples of any depth over 8 or 16 bits."""
    full = 255 if bits <= 8 else 65535
    ramp = (np.arange(1 << bits) * full + ((1 << bits) - 1) // 2) // ((1 << bits) - 1)
    return (full - ramp if inverted else ramp).astype(np.uint8 if bits <= 8 else np.uint16)


def _rgb_from_ycbcr(samples: NDArray[Any]) -> NDArray[Any]:
    """Convert full-range BT.601 of 8 or 16 bits."""
    most = np.iinfo(samples.dtype).max
    y, cb, cr = (samples[..., i].astype(np.float32) for i in range(3))
    cb, cr = cb - (most + 1) // 2, cr - (most + 1) // 2
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2)
    return np.clip(np.floor(rgb + 0.5), 0, most).astype(samples.dtype)
