"""In which order tiles are served, so that each stored tile is decoded once.

Neighbouring tiles of the plan share stored tiles of the slide. Row by row over the whole width, a
stored tile is needed again after all that lies in between, which for a wide slide is more than the
cache holds. So tiles are served in bands: some columns of the plan, from top to bottom, row by row
inside the band::

    1  2  3 | 13 14 15 | 25 ...
    4  5  6 | 16 17 18 |
    7  8  9 | 19 20 21 |

A band is as wide as the cache allows. What must be kept is what one row of the band reads::

    stored rows under a tile  x  (stored columns under the band + under two tiles)  x  stored tile

(two tiles more, for readers that are at the end of one row and at the beginning of the next).
Inside a band nothing is decoded twice; where two bands meet, the stored columns under both are, so
that, with all in pixels of the level that is read::

    decoded / touched  <  1 + (2 * halo + stored tile width) / (band columns * core)

The order changes no byte of the result. Blending needs rows over the whole width (its sums are a
band of rows), and keeps that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.slides.source_tiles import TileGrid
    from cellseg.runtime.tiles.plan import AxisPlan, TilePlan

__all__ = ["band_columns", "cache_for", "in_bands"]

_RESAMPLING_PX = 2  # what the resampling triangle reaches over a window, on each side
_DECODED_TWICE = 0.05  # part of the stored tiles for which a wider band is not worth its memory


@dataclass(frozen=True)
class _Axis:
    """One axis: tiles of the plan over stored tiles."""

    plan: AxisPlan
    scale: float
    """Level pixels per working pixel."""

    stored_px: int
    """Side of a stored tile."""

    stored_count: int
    """Stored tiles along the axis."""

    def stored_under(self, tiles: int) -> int:
        """Bound the stored tiles that so many neighbouring tiles touch."""
        read_px = (self.plan.core_px * (tiles - 1) + self.plan.read_px) * self.scale
        reach = 0 if self.scale == 1.0 else 2 * _RESAMPLING_PX
        return min(self.stored_count, int(np.ceil(read_px + reach - 1) // self.stored_px) + 2)


def cache_for(plan: TilePlan, scale: float, grid: TileGrid, tile_bytes: int) -> int:
    """Return how many bytes of decoded tiles are worth keeping.

    Enough for a row of the whole width, or of a band that decodes few stored tiles twice. What is
    kept beyond that is never asked for again.

    Parameters
    ----------
    plan : TilePlan
        The tiles.
    scale : float
        Pixels of the level that is read per working pixel.
    grid : TileGrid
        Stored tiles of that level.
    tile_bytes : int
        Bytes of one of them, decoded.
    """
    rows = _Axis(plan.y, scale, grid.tile_h, grid.rows)
    columns = _Axis(plan.x, scale, grid.tile_w, grid.cols)
    shared_px = 2 * plan.x.halo_px + grid.tile_w / scale
    wide = int(np.ceil(shared_px / (_DECODED_TWICE * plan.x.core_px)))
    band = columns.stored_under(min(len(plan.x), wide))
    return tile_bytes * rows.stored_under(1) * (band + 2 * columns.stored_under(1))


def band_columns(
    plan: TilePlan, scale: float, grid: TileGrid, tile_bytes: int, cache_bytes: int
) -> int:
    """Return how many columns of tiles a band has.

    Parameters
    ----------
    plan : TilePlan
        The tiles.
    scale : float
        Pixels of the level that is read per working pixel.
    grid : TileGrid
        Stored tiles of that level.
    tile_bytes : int
        Bytes of one of them, decoded.
    cache_bytes : int
        What may be kept.

    Returns
    -------
    int
        At least 1; all columns where the cache can hold a row of the whole width. Bands are of
        equal width, as far as the columns can be divided.
    """
    rows = _Axis(plan.y, scale, grid.tile_h, grid.rows)
    columns = _Axis(plan.x, scale, grid.tile_w, grid.cols)
    most = cache_bytes // (tile_bytes * rows.stored_under(1)) - 2 * columns.stored_under(1)
    total = len(plan.x)
    fitting = [count for count in range(1, total + 1) if columns.stored_under(count) <= most]
    widest = max(fitting, default=1)
    return -(-total // -(-total // widest))


def in_bands(tiles: NDArray[np.int64], plan_columns: int, band: int) -> NDArray[np.int64]:
    """Sort tiles band by band, row by row inside.

    Parameters
    ----------
    tiles : int64, shape (n,)
        Indices of tiles of a plan.
    plan_columns : int
        Columns of the plan.
    band : int
        Columns of a band.

    Returns
    -------
    int64, shape (n,)
        The same indices.

    Examples
    --------
    >>> in_bands(np.arange(8), plan_columns=4, band=2).tolist()
    [0, 1, 4, 5, 2, 3, 6, 7]
    """
    rows, columns = np.divmod(tiles, plan_columns)
    return np.asarray(tiles[np.lexsort((columns, rows, columns // band))], np.int64)
