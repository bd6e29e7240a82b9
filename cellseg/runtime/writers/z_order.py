"""A pyramid made in one pass, in memory that does not grow with the image.

Tiles of the full resolution are visited along a Z: four neighbours, then the four beside them. As
soon as the four under a tile of the next level are done, so is that tile::

    1 2 | 5 6       after 4: their parent, after 8: its neighbour, ...
    3 4 | 7 8       held: one unfinished tile a level
    ----+----
    9 ...

"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.machine.ahead import in_order
from cellseg.runtime.store.labels import mean_halved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["PyramidGrid", "build_in_z_order"]

_THREADS = 2

Tile = tuple[bytes, "NDArray[np.uint8]"]


@dataclass(frozen=True)
class PyramidGrid:
    """Levels and tiles of a pyramid.

    Examples
    --------
    >>> grid = PyramidGrid((700, 1100), 512)
    >>> grid.level_hws
    [(700, 1100), (350, 550), (175, 275)]
    >>> list(grid.leaves())
    [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (1, 2)]
    """

    hw: tuple[int, int]
    """Height and width of the full resolution."""

    tile_px: int
    """Side of a tile."""

    @property
    def level_hws(self) -> list[tuple[int, int]]:
        """Height and width of each level, until one fits into a tile."""
        hws = [self.hw]
        while max(hws[-1]) > self.tile_px:
            hws.append((-(-hws[-1][0] // 2), -(-hws[-1][1] // 2)))
        return hws

    def children(self, level: int, row: int, column: int) -> Iterator[tuple[int, int]]:
        """Yield the tiles of the level below that a tile is made from."""
        height, width = self.level_hws[level - 1]
        for child_row in (2 * row, 2 * row + 1):
            for child_column in (2 * column, 2 * column + 1):
                if child_row * self.tile_px < height and child_column * self.tile_px < width:
                    yield child_row, child_column

    def leaves(self) -> Iterator[tuple[int, int]]:
        """Yield row and column of every tile of the full resolution along the Z."""
        yield from self._leaves_under(len(self.level_hws) - 1, 0, 0)

    def tile_hw(self, level: int, row: int, column: int) -> tuple[int, int]:
        """Height and width of a tile, cut at the border of its level."""
        height, width = self.level_hws[level]
        y, x = row * self.tile_px, column * self.tile_px
        return min(self.tile_px, height - y), min(self.tile_px, width - x)

    def _leaves_under(self, level: int, row: int, column: int) -> Iterator[tuple[int, int]]:
        if level == 0:
            yield row, column
            return
        for child in self.children(level, row, column):
            yield from self._leaves_under(level - 1, *child)


def build_in_z_order(
    grid: PyramidGrid,
    start: Callable[[int, int], Callable[[], NDArray[np.uint8]]],
    encode: Callable[[NDArray[np.uint8]], bytes],
    put: Callable[[int, int, int, bytes], None],
) -> None:
    """Make and encode all tiles of all levels.

    Parameters
    ----------
    grid : PyramidGrid
        Which tiles there are.
    start : callable
        Called with row and column of a tile of the full resolution, in Z order and from this
        thread; what it returns is called once, from any thread, and returns the tile's pixels,
        uint8 (h, w, 3).
    encode : callable
        From pixels to bytes; called from several threads.
    put : callable
        Called with level, row, column and bytes, from this thread and always in the same order.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        begun = (start(row, column) for row, column in grid.leaves())
        leaves = in_order(pool, lambda made: _made(made, encode), begun, 2 * _THREADS)
        _Builder(grid, encode, put, leaves).build(len(grid.level_hws) - 1, 0, 0)


@dataclass(frozen=True)
class _Builder:
    """Puts tiles together from the halves of those under them."""

    grid: PyramidGrid
    encode: Callable[[NDArray[np.uint8]], bytes]
    put: Callable[[int, int, int, bytes], None]
    leaves: Iterator[Tile]

    def build(self, level: int, row: int, column: int) -> NDArray[np.uint8]:
        """Put a tile and all under it; return its half."""
        if level == 0:
            encoded, half = next(self.leaves)
        else:
            encoded, half = _encoded(self._gathered(level, row, column), self.encode)
        self.put(level, row, column, encoded)
        return half

    def _gathered(self, level: int, row: int, column: int) -> NDArray[np.uint8]:
        side = self.grid.tile_px // 2
        tile = np.empty((*self.grid.tile_hw(level, row, column), 3), np.uint8)
        for child_row, child_column in self.grid.children(level, row, column):
            half = self.build(level - 1, child_row, child_column)
            y, x = (child_row - 2 * row) * side, (child_column - 2 * column) * side
            tile[y : y + half.shape[0], x : x + half.shape[1]] = half
        return tile


def _made(
    make: Callable[[], NDArray[np.uint8]], encode: Callable[[NDArray[np.uint8]], bytes]
) -> Tile:
    return _encoded(make(), encode)


def _encoded(pixels: NDArray[np.uint8], encode: Callable[[NDArray[np.uint8]], bytes]) -> Tile:
    return encode(pixels), mean_halved(pixels)
