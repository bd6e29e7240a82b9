"""Where tiles of a data set begin."""

from __future__ import annotations

__all__ = ["tile_origins"]


def tile_origins(extent_px: int, tile_px: int, step_px: int) -> list[int]:
    """Origins at every step; the last tile is moved back inside where there is room.

    Examples
    --------
    >>> tile_origins(1200, 512, 512), tile_origins(300, 512, 512)
    ([0, 512, 688], [0])
    """
    count = max(1, -(-(extent_px - tile_px) // step_px) + 1)
    return [max(0, min(index * step_px, extent_px - tile_px)) for index in range(count)]
