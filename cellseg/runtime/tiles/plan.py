"""Tile plan: what is read, what is kept, in which order.

One axis, three tiles. Each reads ``tile_px``; ``=`` is kept, ``.`` is halo: read and dropped::

    0          core_px    2 * core_px        flush with the rounded extent
    |===========....|
               |....=======....|
                        |....===============|
    |===========|===========|===============|     kept: every pixel once

The two ends of a slide carry no halo: there the network pads with zeros, as it does for a whole
image. Every other side of a tile does, so that what is kept never sees a tile's own border.

A network with poolings sees a grid of ``stride_px`` (2 to the number of poolings). Origins and
sizes are multiples of it, and the extent is rounded up to it (the reader repeats the edge pixel
there), so that each tile meets the grid in the phase in which the whole image would.

All tiles of a plan have one shape; the grid is fixed at (0, 0). Tiles are computed from their
index, never listed: a plan of a slide of 10^6 x 10^6 pixels is two small frozen objects.

An image is hardly ever a whole number of tiles, and the last one overlaps the one before. Spread
evenly, the same number of tiles covers it with shorter ones: 2048 pixels take three of 1024 or
three of 816 (halo 96, stride 16), which is 1.6 times less to compute in the plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from cellseg.errors import TilePlanError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["DEFAULT_TILE_PX", "AxisPlan", "Tile", "TilePlan", "plan_tiles", "tile_px_for"]

DEFAULT_TILE_PX = 1024


@dataclass(frozen=True)
class AxisPlan:
    """Tiles along one axis.

    Parameters
    ----------
    extent_px : int
        Length of the image, >= 1.
    tile_px : int
        Length that a tile reads at most, a multiple of ``stride_px``; shorter images have shorter
        tiles.
    halo_px : int
        Margin read but not kept on each inner side, >= 0.
    stride_px : int
        The network's total stride, >= 1.
    is_even : bool
        Shorten tiles as far as no more of them are needed.

    Raises
    ------
    TilePlanError
        If the four lengths do not fit together.

    Examples
    --------
    >>> axis = AxisPlan(extent_px=1000, tile_px=512, halo_px=96, stride_px=16)
    >>> [(axis.read_start(i), axis.keep(i)) for i in range(len(axis))]
    [(0, (0, 416)), (320, (416, 736)), (496, (736, 1000))]
    >>> AxisPlan(1000, 512, halo_px=96, stride_px=16, is_even=True).read_px
    464
    """

    extent_px: int
    tile_px: int
    halo_px: int = 0
    stride_px: int = 1
    is_even: bool = False

    def __post_init__(self) -> None:
        if self.extent_px < 1:
            raise TilePlanError(
                f"An image must have at least one pixel. Received: extent_px={self.extent_px}."
            )
        if self.stride_px < 1 or self.tile_px < 1 or self.tile_px % self.stride_px:
            raise TilePlanError(
                "A tile must be a positive multiple of the network's stride. "
                f"Received: tile_px={self.tile_px}, stride_px={self.stride_px}.",
                hint=f"The nearest is {_round_up(max(self.tile_px, 1), max(self.stride_px, 1))}.",
            )
        if self.halo_px < 0 or self._core_of(self.tile_px) < 1:
            raise TilePlanError(
                "A halo must leave a kept core of one stride: "
                "0 <= 2 * halo_px <= tile_px - stride_px. Received: "
                f"tile_px={self.tile_px}, halo_px={self.halo_px}, stride_px={self.stride_px}.",
                hint=f"Tiles of {tile_px_for(self.halo_px, self.stride_px)} px suit this halo.",
            )

    @property
    def core_px(self) -> int:
        """Distance of neighbouring origins: the multiple of the stride that the halo leaves."""
        return self._core_of(self._whole_px)

    @property
    def rounded_px(self) -> int:
        """Extent rounded up to the stride: where the last tile ends."""
        return _round_up(self.extent_px, self.stride_px)

    @property
    def read_px(self) -> int:
        """Length that every tile of this plan reads."""
        return min(self._whole_px, self.rounded_px)

    @cached_property
    def _whole_px(self) -> int:
        """Length of a tile that is not shorter because the image is."""
        if not self.is_even or self.rounded_px <= self.tile_px:
            return self.tile_px
        count = 1 - (self.tile_px - self.rounded_px) // self._core_of(self.tile_px)
        beside_px = self.rounded_px - 2 * self.halo_px
        even_px = _round_up(-(-beside_px // count) + 2 * self.halo_px, self.stride_px)
        while (count - 1) * self._core_of(even_px) + even_px < self.rounded_px:
            even_px += self.stride_px  # a halo that is no multiple of the stride
        return even_px

    def _core_of(self, tile_px: int) -> int:
        return (tile_px - 2 * self.halo_px) // self.stride_px * self.stride_px

    def __len__(self) -> int:
        return 1 + -(-(self.rounded_px - self.read_px) // self.core_px)

    def read_start(self, index: int) -> int:
        """Origin of a tile; the last one is flush with the rounded extent."""
        return min(index * self.core_px, self.rounded_px - self.read_px)

    def keep(self, index: int) -> tuple[int, int]:
        """Start and stop of what a tile keeps, in pixels of the image."""
        start = 0 if index == 0 else self._inner_stop(index - 1)
        stop = self.extent_px if index == len(self) - 1 else self._inner_stop(index)
        return start, stop

    def index_of(self, pixel: int) -> int:
        """Return the index of the tile that keeps a pixel."""
        beyond = pixel - self._inner_stop(0)
        return 0 if beyond < 0 else min(beyond // self.core_px + 1, len(self) - 1)

    def keep_edges(self) -> NDArray[np.int64]:
        """Return where kept parts begin, and the extent, shape (len + 1,)."""
        inner = np.arange(len(self) - 1, dtype=np.int64) * self.core_px + self._inner_stop(0)
        return np.concatenate(([0], inner, [self.extent_px]))

    def _inner_stop(self, index: int) -> int:
        return index * self.core_px + self._whole_px - self.halo_px


@dataclass(frozen=True)
class Tile:
    """One tile, in pixels of the working level."""

    index: int
    """Position in the plan, row by row."""

    read_yx: tuple[int, int]
    """Top-left corner of what is read."""

    keep_yx: tuple[int, int]
    """Top-left corner of what is kept."""

    keep_hw: tuple[int, int]
    """Height and width of what is kept."""

    @property
    def outer(self) -> tuple[slice, slice]:
        """What is kept, as slices of the whole image."""
        (y, x), (h, w) = self.keep_yx, self.keep_hw
        return slice(y, y + h), slice(x, x + w)

    @property
    def inner(self) -> tuple[slice, slice]:
        """What is kept, as slices of the tile."""
        (y, x), (h, w) = self.inner_yx, self.keep_hw
        return slice(y, y + h), slice(x, x + w)

    @property
    def inner_yx(self) -> tuple[int, int]:
        """Top-left corner of what is kept, in pixels of the tile."""
        return self.keep_yx[0] - self.read_yx[0], self.keep_yx[1] - self.read_yx[1]

    def __str__(self) -> str:
        (y, x), (h, w) = self.keep_yx, self.keep_hw
        return f"tile {self.index} (rows {y}..{y + h - 1}, columns {x}..{x + w - 1})"


@dataclass(frozen=True)
class TilePlan:
    """Tiles of an image: two axes, row by row.

    Examples
    --------
    >>> plan = plan_tiles((700, 1000), tile_px=512, halo_px=96, stride_px=16)
    >>> plan.grid, plan.tile_hw
    ((2, 3), (512, 512))
    >>> print(plan.tile(5))
    tile 5 (rows 416..699, columns 736..999)
    """

    y: AxisPlan
    """Rows."""

    x: AxisPlan
    """Columns."""

    @property
    def extent_hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.y.extent_px, self.x.extent_px

    @property
    def rounded_hw(self) -> tuple[int, int]:
        """Extent rounded up to the stride: what tiles may read."""
        return self.y.rounded_px, self.x.rounded_px

    @property
    def tile_hw(self) -> tuple[int, int]:
        """Height and width of every tile."""
        return self.y.read_px, self.x.read_px

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles along y and along x."""
        return len(self.y), len(self.x)

    @property
    def tiles(self) -> Sequence[Tile]:
        """All tiles in order, each made when it is asked for."""
        return _Tiles(self)

    def __len__(self) -> int:
        return len(self.y) * len(self.x)

    def __iter__(self) -> Iterator[Tile]:
        return (self.tile(index) for index in range(len(self)))

    def tile(self, index: int) -> Tile:
        """Return one tile by its position, row by row.

        Raises
        ------
        IndexError
            If there is no such tile.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"Tiles are 0..{len(self) - 1}. Received: index={index}.")
        row, column = divmod(index, len(self.x))
        (top, bottom), (left, right) = self.y.keep(row), self.x.keep(column)
        return Tile(
            index=index,
            read_yx=(self.y.read_start(row), self.x.read_start(column)),
            keep_yx=(top, left),
            keep_hw=(bottom - top, right - left),
        )

    def tiles_in(self, y0: int, x0: int, y1: int, x1: int) -> Iterator[Tile]:
        """Yield the tiles that keep a pixel of the window [y0, y1) x [x0, x1), row by row."""
        columns = range(self.x.index_of(x0), self.x.index_of(x1 - 1) + 1)
        for row in range(self.y.index_of(y0), self.y.index_of(y1 - 1) + 1):
            yield from (self.tile(row * len(self.x) + column) for column in columns)


class _Tiles(Sequence[Tile]):
    """The tiles of a plan as a sequence that holds none of them."""

    def __init__(self, plan: TilePlan) -> None:
        self._plan = plan

    def __len__(self) -> int:
        return len(self._plan)

    @overload
    def __getitem__(self, index: int) -> Tile: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tile]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._plan.tile(i) for i in range(*index.indices(len(self)))]
        return self._plan.tile(index + len(self) if index < 0 else index)


def plan_tiles(
    extent_hw: tuple[int, int],
    tile_px: int,
    halo_px: int,
    stride_px: int,
    *,
    is_even: bool = False,
) -> TilePlan:
    """Plan tiles over an image; an image smaller than a tile gets a smaller tile.

    Parameters
    ----------
    extent_hw : (int, int)
        Height and width of the image at the working level.
    tile_px, halo_px, stride_px, is_even
        As in `AxisPlan`.

    Returns
    -------
    TilePlan
        Frozen.

    Raises
    ------
    TilePlanError
        If they do not fit together.
    """
    height, width = extent_hw
    return TilePlan(
        AxisPlan(height, tile_px, halo_px, stride_px, is_even),
        AxisPlan(width, tile_px, halo_px, stride_px, is_even),
    )


def tile_px_for(halo_px: int, stride_px: int) -> int:
    """Return the default tile for a halo: `DEFAULT_TILE_PX`, or four halos where that is more.

    Four halos leave a core of half the tile, so that at most three quarters of the work is halo.
    """
    return _round_up(max(DEFAULT_TILE_PX, 4 * halo_px), stride_px)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
