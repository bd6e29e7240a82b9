"""Arrays in result files, read when they are asked for and only where."""

from __future__ import annotations

import math
from contextlib import closing
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.store.file_labels import FileLabels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

__all__ = ["LazyLabels"]

Index = int | slice | EllipsisType


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
        self.path, self.level = path, level
        with closing(FileLabels(path, level)) as file:
            self.level_count, self.shape, self.dtype = file.level_count, file.hw, file.dtype

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Index | tuple[Index, ...]) -> Any:
        """Read a window, as ``array[rows, columns]`` with slices and integers."""
        keys = _without_ellipsis(key if isinstance(key, tuple) else (key,))
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
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if 0 in (height, width):
            return np.zeros((height, width), self.dtype)
        with closing(FileLabels(self.path, self.level)) as file:
            return file.read(rows.start, columns.start, height, width)


def _without_ellipsis(keys: tuple[Any, ...]) -> tuple[Any, ...]:
    """Write ``...`` out: it stands for the axes that nothing else names."""
    at = next((index for index, key in enumerate(keys) if key is Ellipsis), None)
    if at is None:
        return keys
    return (*keys[:at], *[slice(None)] * (3 - len(keys)), *keys[at + 1 :])


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
