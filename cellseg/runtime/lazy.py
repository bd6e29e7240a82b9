"""Arrays in result files, read when they are asked for and only where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import SlideError
from cellseg.runtime.slide import paste

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

__all__ = ["LazyLabels"]

Index = int | slice


class LazyLabels:
    """A label map in one of our OME-TIFF files; behaves like an array that is not in memory.

    Parameters
    ----------
    path : Path
        ``classes.ome.tif`` or ``labels.ome.tif``.
    level : int
        Level of the pyramid, 0 for the full resolution.

    Attributes
    ----------
    shape : (int, int)
        Height and width.
    dtype : dtype
        uint8 for classes, uint32 for instances.

    Examples
    --------
    >>> LazyLabels(folder / "classes.ome.tif")[1000:1512, 2000:2512].shape  # doctest: +SKIP
    (512, 512)
    """

    ndim = 2

    def __init__(self, path: Path, level: int = 0) -> None:
        import tifffile

        self.path, self.level = path, level
        with tifffile.TiffFile(path) as tif:
            self.level_count = len(tif.series[0].levels)
            if not 0 <= level < self.level_count:
                raise SlideError(
                    f"Level must be one of 0..{self.level_count - 1}. Received: level={level}."
                )
            page = tif.series[0].levels[level].keyframe
            self.shape = (int(page.imagelength), int(page.imagewidth))
            self.dtype = np.dtype(page.dtype)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Index | tuple[Index, ...]) -> Any:
        """Read a window, as ``array[rows, columns]`` with slices and integers."""
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > 2 or not all(isinstance(item, (int, np.integer, slice)) for item in keys):
            raise TypeError(f"Index rows and columns by slices or integers. Received: {key!r}.")
        rows, columns = (*keys, slice(None), slice(None))[:2]
        (y, y_rest), (x, x_rest) = _span(rows, self.shape[0]), _span(columns, self.shape[1])
        return self._read(y, x)[y_rest, x_rest]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read it all."""
        whole = self._read(slice(0, self.shape[0]), slice(0, self.shape[1]))
        return whole if dtype is None else whole.astype(dtype)

    def _read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read the tiles that a window touches."""
        import tifffile

        window = np.zeros((rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        if 0 in window.shape:
            return window
        with tifffile.TiffFile(self.path) as tif:
            page = tif.series[0].levels[self.level].keyframe
            side_y, side_x = page.tilelength, page.tilewidth
            across = -(-page.imagewidth // side_x)
            for row in range(rows.start // side_y, (rows.stop - 1) // side_y + 1):
                for column in range(columns.start // side_x, (columns.stop - 1) // side_x + 1):
                    index = row * across + column
                    tif.filehandle.seek(page.dataoffsets[index])
                    data = tif.filehandle.read(page.databytecounts[index])
                    tile = np.asarray(page.decode(data, index)[0])[0, :, :, 0]
                    origin = (row * side_y - rows.start, column * side_x - columns.start)
                    paste(window, tile, origin)
        return window


def _span(key: Any, extent: int) -> tuple[slice, Any]:
    """Split an index into the contiguous span to read and the index into what was read."""
    if not isinstance(key, slice):
        index = int(key) + extent if key < 0 else int(key)
        if not 0 <= index < extent:
            raise IndexError(f"Index must lie in 0..{extent - 1}. Received: {key}.")
        return slice(index, index + 1), 0
    start, stop, step = key.indices(extent)
    indices = range(start, stop, step)
    if not indices:
        return slice(0, 0), slice(None)
    low, high = min(indices[0], indices[-1]), max(indices[0], indices[-1])
    return slice(low, high + 1), slice(None, None, step)
