"""Pyramidal tiled JPEG BigTIFF, written tile by tile in one pass.

TIFF lets tiles lie anywhere in the file; their offsets stand in the directories. So tiles are
appended as they are made, whatever their level, and the directories follow at the end: no level
waits for another in memory or in a second file. `cellseg.runtime.writers.z_order` makes them in an
order in which a tile of a level is complete as soon as the four under it are.

Levels are directories of their own (not SubIFDs), as OpenSlide, libvips and QuPath expect of a
generic pyramidal TIFF; each tile is a whole JPEG stream, YCbCr without colour subsampling, which
would blur outlines. The file says nothing about when it was made: equal pixels give equal bytes.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["JPEG_TILE_PX", "JpegPyramid", "encode_tile"]

JPEG_TILE_PX = 512
_QUALITY = 85
_SHORT, _LONG, _RATIONAL, _LONG8 = 3, 4, 5, 16
_BYTES = {_SHORT: 2, _LONG: 4, _RATIONAL: 4, _LONG8: 8}
_JPEG, _YCBCR, _CENTIMETER, _NO_UNIT = 7, 6, 3, 1


class JpegPyramid:
    """A file that takes the tiles of all levels in any order.

    Parameters
    ----------
    path : Path
        Target; written in place.
    level_hws : sequence of (int, int)
        Height and width of each level, the largest first.
    mpp : (float, float) or None
        Microns per pixel of the first level, (x, y); None where it is not known.

    Notes
    -----
    A context manager: the directories are written when its block ends without an error.
    """

    def __init__(
        self,
        path: Path,
        level_hws: Sequence[tuple[int, int]],
        mpp: tuple[float, float] | None,
    ) -> None:
        self._hws, self._mpp = level_hws, mpp
        grids = [_grid(hw) for hw in level_hws]
        self._columns = [columns for _, columns in grids]
        self._offsets = [np.zeros(rows * columns, np.uint64) for rows, columns in grids]
        self._sizes = [np.zeros(rows * columns, np.uint64) for rows, columns in grids]
        self._file = path.open("wb")
        self._file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))

    def put(self, level: int, row: int, column: int, encoded: bytes) -> None:
        """Append a tile, made by `encode_tile`."""
        index = row * self._columns[level] + column
        self._offsets[level][index] = self._file.tell()
        self._sizes[level][index] = len(encoded)
        self._file.write(encoded)

    def __enter__(self) -> JpegPyramid:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if kind is None:
                self._finish()

    def _finish(self) -> None:
        """Write the directories, each pointing to the next, and let the header point to them."""
        link_at = 8  # where the header keeps the offset of the first directory
        for level in range(len(self._hws)):
            entries = self._entries(level)
            values = [_packed(kind, numbers) for _, kind, numbers in entries]
            start = self._aligned()
            beyond = start + 8 + 20 * len(entries) + 8
            directory = struct.pack("<Q", len(entries))
            tail = b""
            for (tag, kind, numbers), value in zip(entries, values, strict=True):
                count = len(numbers) // (2 if kind == _RATIONAL else 1)
                if len(value) > 8:
                    tail, value = tail + value, struct.pack("<Q", beyond + len(tail))
                directory += struct.pack("<HHQ", tag, kind, count) + value.ljust(8, b"\0")
            self._file.write(directory + bytes(8) + tail)
            self._file.seek(link_at)
            self._file.write(struct.pack("<Q", start))
            self._file.seek(0, 2)
            link_at = beyond - 8

    def _aligned(self) -> int:
        """Fill up to a multiple of 8 and return where the file ends then."""
        self._file.write(bytes(-self._file.tell() % 8))
        return self._file.tell()

    def _entries(self, level: int) -> list[tuple[int, int, Sequence[int]]]:
        """Return (tag, type, values) of a level, by tag."""
        height, width = self._hws[level]
        x_per_cm, y_per_cm = (_per_cm(each, level) for each in self._mpp or (None, None))
        return [
            (254, _LONG, [0 if level == 0 else 1]),  # NewSubfileType: a reduced image
            (256, _LONG, [width]),
            (257, _LONG, [height]),
            (258, _SHORT, [8, 8, 8]),
            (259, _SHORT, [_JPEG]),
            (262, _SHORT, [_YCBCR]),
            (277, _SHORT, [3]),
            (282, _RATIONAL, x_per_cm),
            (283, _RATIONAL, y_per_cm),
            (284, _SHORT, [1]),  # samples beside each other
            (296, _SHORT, [_NO_UNIT if self._mpp is None else _CENTIMETER]),
            (322, _LONG, [JPEG_TILE_PX]),
            (323, _LONG, [JPEG_TILE_PX]),
            (324, _LONG8, self._offsets[level].tolist()),
            (325, _LONG8, self._sizes[level].tolist()),
            (530, _SHORT, [1, 1]),  # YCbCrSubSampling
        ]


def encode_tile(rgb: NDArray[np.uint8]) -> bytes:
    """Encode a tile; at the border of a level it is filled up with the last pixels.

    Parameters
    ----------
    rgb : uint8, shape (h, w, 3)
        At most `JPEG_TILE_PX` to a side.
    """
    import imagecodecs

    height, width = rgb.shape[:2]
    missing = ((0, JPEG_TILE_PX - height), (0, JPEG_TILE_PX - width), (0, 0))
    whole = rgb if rgb.shape[:2] == (JPEG_TILE_PX,) * 2 else np.pad(rgb, missing, mode="edge")
    data = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(whole),
        level=_QUALITY,
        colorspace="rgb",
        outcolorspace="ycbcr",
        subsampling="444",
    )
    return bytes(data)


def _grid(hw: tuple[int, int]) -> tuple[int, int]:
    return -(-hw[0] // JPEG_TILE_PX), -(-hw[1] // JPEG_TILE_PX)


def _per_cm(mpp: float | None, level: int) -> tuple[int, int]:
    """Return pixels per centimetre of a level as numerator and denominator of 32 bits each."""
    if mpp is None:
        return 1, 1
    per_cm = 1e4 / mpp / 2**level
    largest = max(1, min(10**6, int(2**31 / max(1.0, per_cm))))
    return Fraction(per_cm).limit_denominator(largest).as_integer_ratio()


def _packed(kind: int, numbers: Sequence[int]) -> bytes:
    return np.array(numbers, f"<u{_BYTES[kind]}").tobytes()
