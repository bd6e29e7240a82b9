"""Maps in our own OME-TIFF files, read window by window while the file stays open."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import SlideError
from cellseg.runtime.slides.slide import paste
from cellseg.runtime.slides.tilecache import TileCache

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FileLabels"]

_CACHE_BYTES = 64 << 20


class FileLabels:
    """One level of a label file as a `cellseg.runtime.store.labels.LabelSource`; to be closed.

    Parameters
    ----------
    path : Path
        Written by `cellseg.runtime.writers.ome_tiff`.
    level : int
        Level of the pyramid, 0 for the full resolution.

    Attributes
    ----------
    hw : (int, int)
        Height and width.
    dtype : dtype
        That of the file.
    level_count : int
        Levels of the pyramid.

    Raises
    ------
    SlideError
        If there is no such level.
    """

    def __init__(self, path: Path, level: int = 0) -> None:
        import tifffile

        self._tif = tifffile.TiffFile(path)
        levels = self._tif.series[0].levels
        self.level_count = len(levels)
        if not 0 <= level < self.level_count:
            self._tif.close()
            raise SlideError(
                f"Level must be one of 0..{self.level_count - 1}. Received: level={level}."
            )
        self._page: Any = levels[level].keyframe
        self._cache = TileCache(_CACHE_BYTES)
        self._turn = Lock()
        self.hw = (int(self._page.imagelength), int(self._page.imagewidth))
        self.dtype = np.dtype(self._page.dtype)

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[Any]:
        """Return a window; see `LabelSource`. Several threads may call."""
        window = np.zeros((h, w), self.dtype)
        side_y, side_x = self._page.tilelength, self._page.tilewidth
        across = -(-self.hw[1] // side_x)
        for row in range(y0 // side_y, -(-(y0 + h) // side_y)):
            for column in range(x0 // side_x, -(-(x0 + w) // side_x)):
                tile = self._cache.get(row * across + column, self._decoder(row * across + column))
                paste(window, tile, (row * side_y - y0, column * side_x - x0))
        return window

    def close(self) -> None:
        """Close the file."""
        self._tif.close()

    def _decoder(self, index: int) -> Any:
        def decode() -> NDArray[Any]:
            with self._turn:
                self._tif.filehandle.seek(self._page.dataoffsets[index])
                data = self._tif.filehandle.read(self._page.databytecounts[index])
            return np.asarray(self._page.decode(data, index)[0])[0, :, :, 0]

        return decode
