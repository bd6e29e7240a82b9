"""The slide as it is measured, kept from when a tile is read until its cells are told apart.

A tile's cells are measured some rows of tiles after the network has seen it. By then what was
decoded for it has left the reader's cache, and decoding it anew costs as much as all measuring, or,
where a slide is JPEG 2000 at twice the resolution, as much as the network. Pixels of the working
level are fewer than those that were decoded, so these are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.slides.slide import paste
from cellseg.runtime.slides.tilecache import TileCache

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.cells.measure import Picture
    from cellseg.runtime.tiles.plan import Tile, TilePlan

__all__ = ["KEPT_BYTES", "KeptPicture"]

KEPT_BYTES = 128 << 20
"""Some 50 tiles of 1024 pixels: more than wait behind a band (`cellseg.runtime.tiles.order`)."""


class KeptPicture:
    """A picture that is put together from what a plan's tiles keep; safe for threads.

    What is not kept, or no longer, is read when it is asked for: the pixels are the same.

    Parameters
    ----------
    picture : Picture
        What tiles are read from.
    plan : TilePlan
        Where they lie.
    limit_bytes : int
        What may be kept; those that were used least recently go first.

    Examples
    --------
    >>> from cellseg.runtime.tiles.plan import plan_tiles
    >>> from cellseg.runtime.slides.slide import ArraySlide
    >>> from cellseg.runtime.view.working import WorkingView
    >>> view = WorkingView(ArraySlide(np.full((40, 40), 7, np.uint8)), None)
    >>> kept = KeptPicture(view, plan_tiles((40, 40), tile_px=32, halo_px=8, stride_px=8))
    >>> kept.read(20, 10, 1, 2)[..., 0].tolist()
    [[7, 7]]
    """

    def __init__(self, picture: Picture, plan: TilePlan, limit_bytes: int = KEPT_BYTES) -> None:
        self._picture, self._plan = picture, plan
        self._cache = TileCache(limit_bytes)

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""
        return self._picture.hw

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Microns per pixel, (x, y)."""
        return self._picture.mpp

    def keep(self, tile: Tile) -> None:
        """Read what a tile keeps; to be called when its pixels were just decoded."""
        self._pixels(tile)

    def drop(self, tile: Tile) -> None:
        """Forget a tile that will hardly be asked for again."""
        self._cache.drop(tile.index)

    def clear(self) -> None:
        """Forget all."""
        self._cache.clear()

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[np.uint8]:
        """Return a window, uint8 (h, w, 3)."""
        window = np.empty((h, w, 3), np.uint8)
        for tile in self._plan.tiles_in(y0, x0, y0 + h, x0 + w):
            paste(window, self._pixels(tile), (tile.keep_yx[0] - y0, tile.keep_yx[1] - x0))
        return window

    def _pixels(self, tile: Tile) -> NDArray[np.uint8]:
        read = self._picture.read
        return self._cache.get(tile.index, lambda: read(*tile.keep_yx, *tile.keep_hw))
