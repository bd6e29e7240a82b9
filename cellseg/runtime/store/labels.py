"""Label maps of any size, read window by window: where writers take them from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellseg.runtime.slides.slide import paste
from cellseg.runtime.slides.tilecache import TileCache
from cellseg.runtime.store.packing import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cellseg.runtime.store.result_store import Plane, ResultStore
    from cellseg.runtime.tiles.plan import Tile, TilePlan

__all__ = [
    "ArrayLabels",
    "LabelSource",
    "ReducedLabels",
    "StoredPlane",
    "halved",
    "mean_halved",
    "read_padded",
    "windows",
]

CACHE_BYTES = 32 << 20


class LabelSource(Protocol):
    """A map of class indices or instance labels; several threads may read it at once."""

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """An unsigned integer; float32 of a map of densities."""
        ...

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[Any]:
        """Return a window that lies inside, shape (h, w); not to be written into."""
        ...


class ArrayLabels:
    """A label map in memory.

    Parameters
    ----------
    labels : unsigned integers, shape (H, W)
    """

    def __init__(self, labels: NDArray[Any]) -> None:
        self._labels = labels
        self.hw = (int(labels.shape[0]), int(labels.shape[1]))
        self.dtype = labels.dtype

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[Any]:
        """Return a window; see `LabelSource`."""
        return self._labels[y0 : y0 + h, x0 : x0 + w]


class StoredPlane:
    """One uint8 plane of a run, put together from its store; tiles that are not there are 0.

    Parameters
    ----------
    plan : TilePlan
        Where tiles lie.
    store : ResultStore
        Stays open and in the caller's hands.
    plane : {"classes", "probability", "interior"}
        Which of what the store keeps of a tile.
    is_there : bool, shape (tiles,), optional
        Which tiles the store has; may become more meanwhile. By default those of this moment.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        plan: TilePlan,
        store: ResultStore,
        plane: Plane = "classes",
        is_there: NDArray[np.bool_] | None = None,
    ) -> None:
        self._plan = plan
        self._store, self._name = store, plane
        # Neighbouring windows touch the same tiles; without room for a whole row of tiles each
        # of them is unpacked a few times, which costs far less than it did to compute it.
        self._cache = TileCache(CACHE_BYTES)
        if is_there is None:
            is_there = np.zeros(len(plan), bool)
            is_there[store.done()] = True
        self._is_there = is_there
        self.hw = plan.extent_hw

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[np.uint8]:
        """Return a window; see `LabelSource`."""
        window = np.zeros((h, w), np.uint8)
        for tile in self._plan.tiles_in(y0, x0, y0 + h, x0 + w):
            if self._is_there[tile.index]:
                paste(window, self._tile(tile), (tile.keep_yx[0] - y0, tile.keep_yx[1] - x0))
        return window

    def _tile(self, tile: Tile) -> NDArray[np.uint8]:
        return self._cache.get(
            tile.index,
            lambda: unpack(
                self._store.plane(self._name, tile.index) or b"", tile.keep_hw, np.uint8
            ),
        )


class ReducedLabels:
    """A label map at a power of two of its size, by the commonest label of each 2 x 2 block.

    Parameters
    ----------
    labels : LabelSource
        Read window by window.
    halvings : int
        How often it is halved; 0: it is read as it is.

    Examples
    --------
    >>> whole = ArrayLabels(np.repeat(np.arange(6, dtype=np.uint8), 4)[None].repeat(4, 0))
    >>> reduced = ReducedLabels(whole, 2)
    >>> reduced.hw, reduced.read(0, 1, 1, 3).tolist()
    ((1, 6), [[1, 2, 3]])
    """

    def __init__(self, labels: LabelSource, halvings: int) -> None:
        self._labels, self._halvings = labels, halvings
        self.hw = (-(-labels.hw[0] >> halvings), -(-labels.hw[1] >> halvings))
        self.dtype = labels.dtype

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[Any]:
        """Return a window; see `LabelSource`."""
        (top, left), (height, width) = (
            (v << self._halvings for v in p) for p in ((y0, x0), (h, w))
        )
        below, right = self._labels.hw[0] - top, self._labels.hw[1] - left
        window = self._labels.read(top, left, min(height, below), min(width, right))
        for _ in range(self._halvings):
            window = halved(window)
        return window


def read_padded(source: LabelSource, y0: int, x0: int, h: int, w: int) -> NDArray[Any]:
    """Read a window that may reach beyond a map; there it is 0."""
    window = np.zeros((h, w), source.dtype)
    top, left = max(0, y0), max(0, x0)
    bottom, right = min(source.hw[0], y0 + h), min(source.hw[1], x0 + w)
    if bottom > top and right > left:
        paste(window, source.read(top, left, bottom - top, right - left), (top - y0, left - x0))
    return window


def windows(
    hw: tuple[int, int], part: int | tuple[int, int]
) -> Iterator[tuple[int, int, int, int]]:
    """Yield (y0, x0, h, w) of the squares, or rectangles of a size, that cover an image.

    They come row by row, cut at its border.
    """
    height, width = hw
    part_h, part_w = (part, part) if isinstance(part, int) else part
    for y in range(0, height, part_h):
        for x in range(0, width, part_w):
            yield y, x, min(part_h, height - y), min(part_w, width - x)


def halved(labels: NDArray[Any]) -> NDArray[Any]:
    """Return a label map at half the size; see `cellseg.runtime.kernels.pyramid.halve_labels`."""
    from cellseg.runtime.kernels.pyramid import halve_labels

    half = np.empty((-(-labels.shape[0] // 2), -(-labels.shape[1] // 2)), labels.dtype)
    halve_labels(np.ascontiguousarray(labels), half)
    return half


def mean_halved(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image, (H, W) or (H, W, C), at half the size by the mean of each block."""
    from cellseg.runtime.kernels.pyramid import halve_samples

    whole = np.ascontiguousarray(samples.reshape(*samples.shape[:2], -1))
    half = np.empty((-(-whole.shape[0] // 2), -(-whole.shape[1] // 2), whole.shape[2]), np.uint8)
    halve_samples(whole, half)
    return half.reshape(*half.shape[:2], *samples.shape[2:])
