"""Outlines of many cells in three flat arrays, and what they are in level-0 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["DEFAULT_TOLERANCE_PX", "Outlines", "edges_of", "simplified"]

DEFAULT_TOLERANCE_PX = 0.5
_OF_MIDDLES = 0.7  # a tolerance of half a pixel is 0.35 from the middles of sides: see the kernel


@dataclass(frozen=True, eq=False)
class Outlines:
    """Rings of cells, one cell after the other, outer ring first.

    Parameters
    ----------
    points : int32, shape (p, 2)
        (x, y) in half pixels of the working level, relative to the upper left corner of the cell's
        box; the last point of a ring leads back to the first, which is not repeated.
    ring_sizes : int32, shape (r,)
        Points of each ring.
    ring_counts : int32, shape (n,)
        Rings of each cell.
    """

    points: NDArray[np.int32]
    ring_sizes: NDArray[np.int32]
    ring_counts: NDArray[np.int32]

    @classmethod
    def none(cls) -> Outlines:
        """Return the outlines of no cells."""
        return cls(np.zeros((0, 2), np.int32), np.zeros(0, np.int32), np.zeros(0, np.int32))

    @classmethod
    def joined(cls, parts: Sequence[Outlines]) -> Outlines:
        """Return the outlines of several lots of cells, one lot after the other."""
        every = [cls.none(), *parts]
        return cls(
            np.concatenate([part.points for part in every]),
            np.concatenate([part.ring_sizes for part in every]),
            np.concatenate([part.ring_counts for part in every]),
        )

    @property
    def point_counts(self) -> NDArray[np.int64]:
        """Points of each cell, int64 (n,)."""
        ends = np.concatenate(([0], np.cumsum(self.ring_sizes, dtype=np.int64)))
        rings = np.concatenate(([0], np.cumsum(self.ring_counts, dtype=np.int64)))
        return np.diff(ends[rings])

    def wl_points(self, boxes: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the points in pixels of the working level, float64 (p, 2).

        Parameters
        ----------
        boxes : integers, shape (n, 4)
            Boxes of the cells at the working level: y0, x0, y1, x1.
        """
        corners = np.repeat(boxes[:, 1::-1], self.point_counts, axis=0)
        return np.asarray(self.points * 0.5 + corners, np.float64)

    @property
    def areas(self) -> NDArray[np.float64]:
        """Area of each ring in quarters of a pixel, negative for holes, float64 (r,)."""
        from cellseg.runtime.kernels.wkb import ring_areas

        found = np.empty(len(self.ring_sizes))
        ring_areas(self.points.astype(np.float64), self.ring_sizes, found)
        return found

    def part(self, start: int, stop: int) -> Outlines:
        """Return the outlines of the cells ``start .. stop``, without a copy."""
        ring = int(self.ring_counts[:start].sum())
        rings = slice(ring, ring + int(self.ring_counts[start:stop].sum()))
        point = int(self.ring_sizes[:ring].sum())
        points = slice(point, point + int(self.ring_sizes[rings].sum()))
        return Outlines(self.points[points], self.ring_sizes[rings], self.ring_counts[start:stop])

    def taken(self, order: NDArray[np.int64]) -> Outlines:
        """Return the outlines of some cells, in another order."""
        rings = _ranges(self.ring_counts, order)
        return Outlines(
            self.points[_ranges(self.point_counts, order)],
            self.ring_sizes[rings],
            self.ring_counts[order],
        )


def simplified(
    points: NDArray[np.int32],
    ring_ends: NDArray[np.int64],
    ring_counts: NDArray[np.int32],
    tolerance_px: float = DEFAULT_TOLERANCE_PX,
) -> Outlines:
    """Make traced outlines of fewer points.

    Parameters
    ----------
    points, ring_ends, ring_counts
        From `cellseg.runtime.kernels.measure.measure_shapes`: corners where the tolerance is 0,
        else middles of sides. Written into.
    tolerance_px : float
        In pixels. 0: along the sides of pixels, exactly. Else through the middles of sides, of
        which none lies further than 0.7 times this from the outline.

    Returns
    -------
    Outlines
    """
    from cellseg.runtime.kernels.outline import simplify_rings

    size = int(ring_ends[-1]) if len(ring_ends) else 0
    if tolerance_px > 0 and size:
        allowed = 2 * _OF_MIDDLES * tolerance_px
        size = simplify_rings(points[:size], ring_ends, ring_counts, allowed)
    sizes = np.diff(ring_ends, prepend=0).astype(np.int32)
    return _holes_after_their_outlines(Outlines(points[:size].copy(), sizes, ring_counts))


def _holes_after_their_outlines(outlines: Outlines) -> Outlines:
    """Reorder the rings of cells of several pieces: rings were found in raster order."""
    several = np.flatnonzero(outlines.ring_counts > 2)
    if not len(several):  # no cell of several pieces, one with a hole
        return outlines
    order = np.arange(len(outlines.ring_sizes), dtype=np.int64)
    ring_starts = np.cumsum(outlines.ring_counts) - outlines.ring_counts
    some, start = outlines.taken(several), 0
    areas, ends = some.areas, np.cumsum(some.ring_sizes)
    for cell, count in zip(several, some.ring_counts.tolist(), strict=True):
        mine = slice(start, start + count)
        if 1 < (areas[mine] > 0).sum() < count:
            points = np.split(some.points, ends)[mine]
            order[ring_starts[cell] :][:count] = ring_starts[cell] + _in_order(points, areas[mine])
        start += count
    moved = _ranges(outlines.ring_sizes, order)
    return Outlines(outlines.points[moved], outlines.ring_sizes[order], outlines.ring_counts)


def _in_order(rings: list[NDArray[np.int32]], areas: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order in which each hole follows the smallest outline around it."""
    from cellseg.runtime.kernels.polygon import points_inside

    outer = [index for index, area in enumerate(areas) if area > 0]
    around: dict[int, list[int]] = {index: [] for index in outer}
    inside = np.empty(1, bool)
    for hole in np.flatnonzero(areas < 0).tolist():
        x, y = rings[hole][:1].astype(np.float64).T
        holders = []
        for index in outer:
            points_inside(edges_of(rings[index].astype(np.float64)), y, x, inside)
            if inside[0]:
                holders.append(index)
        around[min(holders, key=lambda index: areas[index])].append(hole)
    return np.array([ring for index in outer for ring in (index, *around[index])], np.int64)


def edges_of(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges of a closed ring, shape (n, 4), each from its upper to its lower end."""
    after = np.concatenate([ring[1:], ring[:1]])  # a third of the time of np.roll
    ends: NDArray[np.float64] = np.concatenate([ring, after], axis=1)
    is_upward = ends[:, 1] > ends[:, 3]
    ends[is_upward] = ends[is_upward][:, [2, 3, 0, 1]]
    return ends


def _ranges(counts: NDArray[np.integer], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of the items of some owners, whose items lie one after the other."""
    starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))[order]
    taken = counts[order].astype(np.int64)
    before = np.cumsum(taken) - taken
    inside = np.arange(int(taken.sum()), dtype=np.int64)
    return np.asarray(inside + np.repeat(starts - before, taken), np.int64)
