"""From tiles as the engine returns them to what each of them keeps: the stitcher's seam."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from cellseg.runtime.engines.trim import Output
    from cellseg.runtime.tiles.plan import Tile

__all__ = ["CropStitcher", "Piece", "Stitcher"]


class Piece(NamedTuple):
    """The final channels of what one tile keeps."""

    tile: Tile
    """Whose kept part this is."""

    channels: NDArray[np.float32]
    """Shape (h, w, C); to be used before the next piece is asked for."""

    yx: tuple[int, int]
    """Where the kept part begins in ``channels``."""

    @property
    def kept(self) -> NDArray[np.float32]:
        """The channels of the kept part alone, a view."""
        (y, x), (h, w) = self.yx, self.tile.keep_hw
        return self.channels[y : y + h, x : x + w]


class Stitcher(Protocol):
    """Takes tiles in any order and gives back pieces as they are final. One thread at a time."""

    @property
    def tiles(self) -> NDArray[np.int64]:
        """Indices of the tiles to run, ascending."""
        ...

    @property
    def lookahead(self) -> int | None:
        """How many tiles may be begun from the oldest unfinished one on; None: any number."""
        ...

    def add(self, tile: Tile, output: Output) -> Iterable[Piece]:
        """Take a tile; yield what has become final by it."""
        ...


class CropStitcher:
    """Keeps the core of each tile: the exact way.

    Parameters
    ----------
    tiles : int64, shape (n,)
        Tiles whose kept parts are wanted, ascending; each is run once.
    """

    lookahead: int | None = None

    def __init__(self, tiles: NDArray[np.int64]) -> None:
        self.tiles = tiles

    def add(self, tile: Tile, output: Output) -> Iterable[Piece]:
        """Return the tile's own piece; see `Stitcher`."""
        (y, x), (first_y, first_x) = tile.inner_yx, output.first_yx
        return (Piece(tile, output.channels, (y - first_y, x - first_x)),)
