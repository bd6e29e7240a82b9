"""Blending: the weighted mean of overlapping tiles, for models whose halo cannot be paid for.

One axis, three tiles. Where tiles overlap, a pixel is the mean of what they say of it, weighted by
how far from each tile's border it lies::

    |===============|
              |===============|
                        |===============|
    |=======A=====|====B====|=====C=====|     cells: a tile's kept part, cut in mid-overlap

The plan is that of cropping with half the overlap as its halo, so that a cell is what a tile keeps
there, and is stored and read back like it. A cell is summed up while tiles touch it, and is final
with the last of them; so the cells that are being summed up are a band of about two rows of tiles,
never the slide. Sums are integers (`cellseg.runtime.kernels.blend`): the order of tiles is of no
consequence.

Tiles without tissue are not run. Where one would have counted, its neighbours count alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from cellseg.errors import TilePlanError
from cellseg.runtime.tiles.plan import plan_tiles
from cellseg.runtime.tiles.stitcher import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cellseg.runtime.engines.trim import Output
    from cellseg.runtime.tiles.plan import AxisPlan, Tile, TilePlan

__all__ = [
    "BLENDS",
    "LOOKAHEAD",
    "MAX_OVERLAP",
    "Blend",
    "BlendStitcher",
    "band_bytes",
    "check_blend",
]

Window = Literal["hann", "gaussian"]
BLENDS: tuple[str, ...] = ("crop", *get_args(Window))
"""Ways to join tiles that a user may ask for; ``crop`` is no blending."""

DEFAULT_OVERLAP = 0.25
MAX_OVERLAP = 0.8
LOOKAHEAD = 16
"""Tiles under way at once, at most: as many as the pipeline's queues hold."""

_SUM_LIMIT = 255  # of one axis' weights over a pixel; its square is what a sum of weights may be
_SIGMA = 0.125  # of the Gaussian, as a part of the tile


@dataclass(frozen=True)
class Blend:
    """How overlapping tiles are joined.

    Raises
    ------
    TilePlanError
        If the overlap is not below `MAX_OVERLAP`, or negative.
    """

    window: Window
    """Shape of the weights."""

    overlap: float = DEFAULT_OVERLAP
    """Part of a tile that its neighbour reads too."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= MAX_OVERLAP:
            raise TilePlanError(
                f"An overlap lies between 0 and {MAX_OVERLAP} of a tile. "
                f"Received: overlap={self.overlap}."
            )

    @classmethod
    def of(cls, name: str, overlap: float | None) -> Blend | None:
        """Return what a user asked for; None for ``crop``."""
        if name == "crop":
            return None
        return cls(cast("Window", name), DEFAULT_OVERLAP if overlap is None else overlap)

    def plan(self, extent_hw: tuple[int, int], tile_px: int, stride_px: int) -> TilePlan:
        """Plan tiles that overlap; what a tile keeps is its cell.

        Parameters
        ----------
        extent_hw : (int, int)
            Height and width of the image at the working level.
        tile_px, stride_px : int
            As in `AxisPlan`.

        Raises
        ------
        TilePlanError
            If the overlap leaves less than one stride between two tiles, or tile and stride do not
            fit.
        """
        unit = stride_px * (1 + stride_px % 2)  # an even number of pixels: a halo is half of it
        overlap_px = math.ceil(round(tile_px * self.overlap, 6) / unit) * unit
        if tile_px - overlap_px < stride_px:
            raise TilePlanError(
                "Overlapping tiles must lie at least one stride apart. Received: "
                f"tile_px={tile_px}, overlap={self.overlap}, stride_px={stride_px}.",
                hint="Use larger tiles (--tile) or less overlap (--overlap).",
            )
        return plan_tiles(extent_hw, tile_px, overlap_px // 2, stride_px)

    def weights(self, axis: AxisPlan) -> NDArray[np.uint32]:
        """Tabulate the weights along one axis of a tile.

        Returns
        -------
        uint32, shape (read_px,)
            At least 1; over any pixel the weights of all tiles add up to at most 255.
        """
        top = _SUM_LIMIT // _most_tiles_over_a_pixel(axis)
        place = (np.arange(axis.read_px) + 0.5) / axis.read_px
        if self.window == "hann":
            shape = np.sin(np.pi * place) ** 2
        else:
            shape = np.exp(-0.5 * ((place - 0.5) / _SIGMA) ** 2)
        weights: NDArray[np.uint32] = np.maximum(np.rint(shape * top), 1).astype(np.uint32)
        return weights


def check_blend(name: str, overlap: float | None) -> None:
    """Refuse ways to join tiles that there are not.

    Raises
    ------
    TilePlanError
        If the name is not of `BLENDS`, the overlap is out of range, or there is nothing to blend.
    """
    if name not in BLENDS:
        raise TilePlanError(f"blend is {', '.join(BLENDS[:-1])} or {BLENDS[-1]}. Received: {name}.")
    if Blend.of(name, overlap) is None and overlap is not None:
        raise TilePlanError(
            f"Tiles that are cropped overlap by the model's halo. Received: overlap={overlap}.",
            hint="Choose how to blend: --blend hann or --blend gaussian.",
        )


@dataclass(eq=False)
class _Cell:
    """What has been summed up of one cell."""

    sums: NDArray[np.uint32]
    weights: NDArray[np.uint16]
    tiles_left: int


class BlendStitcher:
    """Sums tiles up; a cell is given back when the last tile that touches it has come.

    Parameters
    ----------
    plan : TilePlan
        From `Blend.plan`.
    blend : Blend
        Gives the weights.
    todo : int64, shape (n,)
        Tiles that count, ascending: those with tissue.
    cells : int64, shape (m,)
        Which of them to give back, ascending: those that are not in the store yet. Tiles that touch
        none of these are not run.
    channels : int
        Channels of the network's output.
    most_bytes : int, optional
        What `band_bytes` said of the whole run; the lookahead is lowered until it is kept.

    Attributes
    ----------
    tiles : int64, shape (k,)
        Tiles to run, ascending: a cell that was being summed up when a run was killed is summed up
        again from all its tiles.
    lookahead : int
        See `Stitcher`.
    """

    lookahead: int | None

    def __init__(
        self,
        plan: TilePlan,
        blend: Blend,
        todo: NDArray[np.int64],
        cells: NDArray[np.int64],
        channels: int,
        most_bytes: int | None = None,
    ) -> None:
        self._plan = plan
        self._cells_of = _cells_of_tiles(plan.y), _cells_of_tiles(plan.x)
        self._tiles_of = _tiles_of_cells(plan.y), _tiles_of_cells(plan.x)
        self._weights = blend.weights(plan.y), blend.weights(plan.x)
        self._is_todo = _grid_of(plan, todo)
        self._is_wanted = _grid_of(plan, cells)
        self._channels = channels
        self._cells: dict[int, _Cell] = {}
        self.tiles = _tiles_touching(plan, todo, cells)
        self.lookahead = LOOKAHEAD
        while (
            most_bytes is not None
            and self.lookahead > 1
            and _band_bytes(plan, self.tiles, cells, channels, self.lookahead) > most_bytes
        ):
            self.lookahead -= 1

    def add(self, tile: Tile, output: Output) -> Iterator[Piece]:
        """Take a whole tile; yield the cells that are final by it. See `Stitcher`."""
        (rows, columns), width = self._cells_of, len(self._plan.x)
        row, column = divmod(tile.index, width)
        for y in range(*rows[row]):
            for x in range(*columns[column]):
                if self._is_wanted[y, x]:
                    yield from self._add_to(self._plan.tile(y * width + x), tile, output.channels)

    @property
    def held_bytes(self) -> int:
        """Bytes of the cells that are being summed up."""
        return sum(cell.sums.nbytes + cell.weights.nbytes for cell in self._cells.values())

    def _add_to(self, owner: Tile, tile: Tile, channels: NDArray[np.float32]) -> Iterator[Piece]:
        from cellseg.runtime.kernels.blend import add_weighted, divide_by_weights

        cell = self._cells.get(owner.index)
        if cell is None:
            cell = self._cells[owner.index] = self._new_cell(owner)
        add_weighted(channels, tile.read_yx, *self._weights, cell.sums, cell.weights, owner.keep_yx)
        cell.tiles_left -= 1
        if cell.tiles_left == 0:
            del self._cells[owner.index]
            final = np.empty(cell.sums.shape, np.float32)
            divide_by_weights(cell.sums, cell.weights, final)
            yield Piece(owner, final, (0, 0))

    def _new_cell(self, owner: Tile) -> _Cell:
        (rows, columns), (row, column) = self._tiles_of, divmod(owner.index, len(self._plan.x))
        touching = self._is_todo[slice(*rows[row]), slice(*columns[column])]
        return _Cell(
            np.zeros((*owner.keep_hw, self._channels), np.uint32),
            np.zeros(owner.keep_hw, np.uint16),
            int(np.count_nonzero(touching)),
        )


def band_bytes(plan: TilePlan, todo: NDArray[np.int64], channels: int) -> int:
    """Return the most that the cells of a run hold at once, bytes.

    Parameters
    ----------
    plan : TilePlan
        From `Blend.plan`.
    todo : int64, shape (n,)
        Tiles to run, ascending.
    channels : int
        Channels of the network's output.
    """
    return _band_bytes(plan, todo, todo, channels, LOOKAHEAD)


def _band_bytes(
    plan: TilePlan,
    tiles: NDArray[np.int64],
    cells: NDArray[np.int64],
    channels: int,
    lookahead: int,
) -> int:
    """Count cells from the first tile that may touch them to the last, whatever order tiles take.

    With position n the oldest that is not stitched, positions below n + lookahead may be: a cell
    is held for n from its first tile less the lookahead, to its last.
    """
    if not len(cells):
        return 0
    rows, columns = np.divmod(cells, len(plan.x))
    first = np.searchsorted(tiles, _corner(plan, rows, columns, 0))
    last = np.searchsorted(tiles, _corner(plan, rows, columns, 1), side="right")
    sizes = np.diff(plan.y.keep_edges())[rows] * np.diff(plan.x.keep_edges())[columns]
    change = np.zeros(len(tiles) + 1, np.int64)
    np.add.at(change, np.maximum(first - lookahead + 1, 0), sizes)
    np.add.at(change, last, -sizes)
    summed = int(np.cumsum(change).max()) * (4 * channels + 2)
    return summed + int(sizes.max()) * 4 * channels  # and one that is being divided


def _corner(
    plan: TilePlan, rows: NDArray[np.int64], columns: NDArray[np.int64], end: int
) -> NDArray[np.int64]:
    """Index of the first (end 0) or last (end 1) tile that touches each cell."""
    tile_rows = _tiles_of_cells(plan.y)[rows, end] - end
    tile_columns = _tiles_of_cells(plan.x)[columns, end] - end
    corner: NDArray[np.int64] = tile_rows * len(plan.x) + tile_columns
    return corner


def _tiles_touching(
    plan: TilePlan, todo: NDArray[np.int64], cells: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the tiles of ``todo`` that touch a cell."""
    if len(cells) == len(todo):
        return todo
    is_run = np.zeros(plan.grid, bool)
    of_rows, of_columns = _tiles_of_cells(plan.y), _tiles_of_cells(plan.x)
    for row, column in zip(*np.divmod(cells, len(plan.x)), strict=True):
        is_run[slice(*of_rows[row]), slice(*of_columns[column])] = True
    return np.asarray(todo[is_run.reshape(-1)[todo]], np.int64)


def _tiles_of_cells(axis: AxisPlan) -> NDArray[np.int64]:
    """Start and stop of the tiles that touch each cell of an axis, int64 (n, 2)."""
    starts, edges = _starts(axis), axis.keep_edges()
    first = np.searchsorted(starts + axis.read_px, edges[:-1], side="right")
    stop = np.searchsorted(starts, edges[1:], side="left")
    return np.stack([first, stop], axis=1)


def _cells_of_tiles(axis: AxisPlan) -> NDArray[np.int64]:
    """Start and stop of the cells that each tile of an axis touches, int64 (n, 2)."""
    starts, edges = _starts(axis), axis.keep_edges()
    first = np.searchsorted(edges[1:], starts, side="right")
    stop = np.searchsorted(edges[:-1], starts + axis.read_px, side="left")
    return np.stack([first, stop], axis=1)


def _grid_of(plan: TilePlan, tiles: NDArray[np.int64]) -> NDArray[np.bool_]:
    grid = np.zeros(len(plan), bool)
    grid[tiles] = True
    return grid.reshape(plan.grid)


def _most_tiles_over_a_pixel(axis: AxisPlan) -> int:
    """Count, at each tile's start, the tiles that reach over it; nowhere are there more."""
    starts = _starts(axis)
    begun = np.searchsorted(starts, starts, side="right")
    ended = np.searchsorted(starts + axis.read_px, starts, side="right")
    return int((begun - ended).max())


def _starts(axis: AxisPlan) -> NDArray[np.int64]:
    """Origin of each tile of an axis."""
    regular = np.arange(len(axis), dtype=np.int64) * axis.core_px
    return np.minimum(regular, axis.rounded_px - axis.read_px)
