"""Areas of drawn regions, in which every place counts once, however their rings overlap.

What a ring encloses can be computed to the last digit, and rings be added up: outlines count, holes
are taken off. That is too much where parts of a region overlap, and wrong where holes overlap or
reach out of their outline. By how much is looked for on a grid of points, so that it is 0 wherever
nothing overlaps, and the sum stays exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cellseg.runtime.shapes.outlines import edges_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.shapes.geojson import Region

__all__ = ["Overlaps", "find_overlaps"]

_MOST_POINTS = 4096
_BAND_POINTS = 256


@dataclass(frozen=True, eq=False)
class Overlaps:
    """By how much areas added up exceed those of what is covered, pixels of the working level."""

    of_rings: NDArray[np.float64]
    """Rings of one polygon, for each region, shape (n,)."""

    of_parts: NDArray[np.float64]
    """Polygons of one region, for each region, shape (n,)."""

    of_regions: float
    """Regions."""


class _Polygon(NamedTuple):
    """A polygon in pixels of the working level; its rings alone where they are to be added up."""

    edges: NDArray[np.float64]
    box: NDArray[np.float64]
    rings: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...] = ()


def find_overlaps(
    regions: Sequence[Region],
    edges: Sequence[NDArray[np.float64]],
    boxes: NDArray[np.float64],
    l0_per_wl: float,
    wl_hw: tuple[int, int],
) -> Overlaps:
    """Look for what areas of rings, polygons and regions have in common.

    Parameters
    ----------
    regions : sequence of Region
        As they were drawn.
    edges, boxes
        Of all their polygons, in order; see `cellseg.runtime.shapes.roi.Roi`.
    l0_per_wl : float
        Level-0 pixels per pixel of the working level.
    wl_hw : (int, int)
        Its height and width: what lies beyond does not count.

    Returns
    -------
    Overlaps
        To a part in a few thousand of each region's box: the grid is as fine as the pixels, or of
        4096 points along the longer side of all boxes.
    """
    drawn = _drawn(regions, edges, boxes, l0_per_wl)
    of_rings, of_parts = np.zeros(len(drawn)), np.zeros(len(drawn))
    if len(drawn) == len(drawn[0]) == 1 and not drawn[0][0].rings:  # one ring overlaps nothing
        return Overlaps(of_rings, of_parts, 0.0)
    around = _around(boxes, [len(polygons) for polygons in drawn])
    low = np.maximum(np.floor(boxes[:, :2].min(axis=0)), 0)
    high = np.minimum(np.ceil(boxes[:, 2:].max(axis=0)), wl_hw[::-1])
    step = max(1, int(np.ceil((high - low).max() / _MOST_POINTS)))
    xs, ys = (np.arange(a + step / 2, b, step) for a, b in zip(low, high, strict=True))
    again = 0
    for start in range(0, len(ys), _BAND_POINTS):
        band = ys[start : start + _BAND_POINTS]
        counts = np.zeros((len(band), len(xs)), np.uint16)
        # There may be a hundred thousand regions, few of them in a band.
        for index in np.flatnonzero((around[:, 1] <= band[-1]) & (around[:, 3] >= band[0])):
            place = _place(around[index], band, xs)
            if len(drawn[index]) == 1 and not drawn[index][0].rings:
                counts[place] += _filled(drawn[index][0].edges, band[place[0]], xs[place[1]])
                continue
            covered, added = _covered(drawn[index], band[place[0]], xs[place[1]])
            counts[place] += covered
            of_rings[index] += added[0] - added[1]
            of_parts[index] += added[1] - int(covered.sum(dtype=np.int64))
        again += int(np.maximum(counts, 1).sum(dtype=np.int64)) - counts.size
    return Overlaps(of_rings * step**2, of_parts * step**2, float(again * step**2))


def _drawn(
    regions: Sequence[Region],
    edges: Sequence[NDArray[np.float64]],
    boxes: NDArray[np.float64],
    l0_per_wl: float,
) -> list[list[_Polygon]]:
    """Return the polygons of each region."""
    polygons = iter(zip(edges, boxes, strict=True))
    found = []
    for region in regions:
        # The rings of one that crosses itself are taken together.
        alone = [
            rings if len(rings) > 1 and not region.crosses else () for rings in region.polygons
        ]
        found.append(
            [
                _Polygon(*next(polygons), tuple(_ring(ring / l0_per_wl) for ring in rings))
                for rings in alone
            ]
        )
    return found


def _ring(ring: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return edges_of(ring), np.concatenate([ring.min(axis=0), ring.max(axis=0)])


def _covered(
    polygons: Sequence[_Polygon], ys: NDArray[np.float64], xs: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return the points that polygons cover; and points by rings, and by polygons."""
    covered = np.zeros((len(ys), len(xs)), np.uint8)
    by_rings = by_polygons = 0
    for polygon in polygons:
        rows, columns = _place(polygon.box, ys, xs)
        filled = _filled(polygon.edges, ys[rows], xs[columns])
        covered[rows, columns] |= filled
        count = int(filled.sum(dtype=np.int64))
        by_polygons += count
        if polygon.rings:
            outline, *holes = (_count(edges, box, ys, xs) for edges, box in polygon.rings)
            count = outline - sum(holes)
        by_rings += count
    return covered, (by_rings, by_polygons)


def _count(
    edges: NDArray[np.float64],
    box: NDArray[np.float64],
    ys: NDArray[np.float64],
    xs: NDArray[np.float64],
) -> int:
    rows, columns = _place(box, ys, xs)
    return int(_filled(edges, ys[rows], xs[columns]).sum(dtype=np.int64))


def _filled(
    edges: NDArray[np.float64], ys: NDArray[np.float64], xs: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return which points lie in what edges enclose."""
    from cellseg.runtime.kernels.polygon import fill_even_odd

    filled = np.empty((len(ys), len(xs)), np.uint8)
    if filled.size:
        fill_even_odd(edges, ys, xs, filled)
    return filled


def _place(
    box: NDArray[np.float64], ys: NDArray[np.float64], xs: NDArray[np.float64]
) -> tuple[slice, slice]:
    """Return rows and columns of the points that lie in a box."""
    left, top, right, bottom = box
    return slice(*np.searchsorted(ys, (top, bottom))), slice(*np.searchsorted(xs, (left, right)))


def _around(boxes: NDArray[np.float64], counts: Sequence[int]) -> NDArray[np.float64]:
    """Return the box around the boxes of each region, of which each has some."""
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    low = np.minimum.reduceat(boxes[:, :2], starts)
    return np.concatenate([low, np.maximum.reduceat(boxes[:, 2:], starts)], axis=1)
