"""PNG written band of rows by band of rows, so that a picture never lies in memory whole."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["PngFile"]

_GREY, _RGB, _PALETTE = 0, 2, 3
_NO_FILTER, _SUB = 0, 1
_LEVEL = 6


class PngFile:
    """A PNG of 8 bits a sample that takes its rows from top to bottom.

    Parameters
    ----------
    path : Path
        Target; written in place.
    hw : (int, int)
        Height and width.
    channels : {1, 3}
        Grey or RGB.
    palette : uint8, shape (n, 3), optional
        Colours of grey values: the file is then shown in colour and still holds the values.

    Notes
    -----
    A context manager. The pixels do not depend on how rows are cut into bands; the bytes may.
    """

    def __init__(
        self,
        path: Path,
        hw: tuple[int, int],
        channels: int = 1,
        palette: NDArray[np.uint8] | None = None,
    ) -> None:
        kind = _PALETTE if palette is not None else _GREY if channels == 1 else _RGB
        # Neighbours are alike in a picture; in a map of indices their difference says nothing.
        self._filter = _NO_FILTER if kind == _PALETTE else _SUB
        self._zip = zlib.compressobj(_LEVEL)
        self._file = path.open("wb")
        self._file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", hw[1], hw[0], 8, kind, 0, 0, 0))
        if palette is not None:
            self._chunk(b"PLTE", palette.tobytes())

    def add(self, rows: NDArray[np.uint8]) -> None:
        """Append rows, uint8 (n, w) or (n, w, 3)."""
        values = np.array(rows, order="C")
        if self._filter == _SUB:
            values[:, 1:] -= rows[:, :-1]
        lines = np.full((rows.shape[0], 1 + values[0].size), self._filter, np.uint8)
        lines[:, 1:] = values.reshape(rows.shape[0], -1)
        self._data(self._zip.compress(lines.tobytes()))

    def __enter__(self) -> PngFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if kind is None:
                self._data(self._zip.flush())
                self._chunk(b"IEND", b"")

    def _data(self, packed: bytes) -> None:
        if packed:
            self._chunk(b"IDAT", packed)

    def _chunk(self, name: bytes, data: bytes) -> None:
        check = zlib.crc32(data, zlib.crc32(name))
        self._file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", check))
