"""Areas of drawn regions, in which every place counts once, however their rings overlap.

What a ring encloses can be computed to the last digit, and rings be added up: outlines count, holes
are taken off. That is too much where parts of a region overlap, and wrong where holes overlap or
reach out of their outline. By how much is looked for on a grid of points, so that it is 0 wherever
nothing overlaps, and the sum stays exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cellseg.runtime.shapes.outlines import edges_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.shapes.geojson import Region

__all__ = ["Overlaps", "find_overlaps"]

_MOST_POINTS = 4096
_BAND_POINTS = 256
_SMALL_PX, _FINE_STEP = 512, 0.25  # boxes in which a pixel counts


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
        Each to a few points of a grid, of at most 4096 along the longer side of the region's box;
        between regions, of the box around all of them.
    """
    drawn = _drawn(regions, edges, boxes, l0_per_wl)
    of_rings, of_parts = np.zeros(len(drawn)), np.zeros(len(drawn))
    for index, polygons in enumerate(drawn):
        if len(polygons) > 1 or polygons[0].rings:  # one ring overlaps nothing
            of_rings[index], of_parts[index] = _within(polygons, wl_hw)
    owners = np.repeat(np.arange(len(drawn)), [len(polygons) for polygons in drawn])
    return Overlaps(of_rings, of_parts, _between(edges, boxes, owners, wl_hw))


def _within(polygons: Sequence[_Polygon], wl_hw: tuple[int, int]) -> tuple[float, float]:
    """Return by how much rings, and polygons, of one region exceed what they cover."""
    boxes = np.array([polygon.box for polygon in polygons])
    rings = [
        (edges, box, 1 if number == 0 else -1)
        for polygon in polygons
        for number, (edges, box) in enumerate(polygon.rings)
    ]
    ring_boxes = np.array([box for _, box, _ in rings]).reshape(-1, 4)
    ys, xs, step = _grid(boxes, wl_hw)
    by_rings = by_polygons = by_points = 0
    for band in _bands(ys):
        covered = np.zeros((len(band), len(xs)), np.uint8)
        for index in _meeting(boxes, band):
            place, filled = _filled(polygons[index].edges, boxes[index], band, xs)
            covered[place] |= filled
            count = int(filled.sum(dtype=np.int64))
            by_polygons += count
            by_rings += 0 if polygons[index].rings else count
        for index in _meeting(ring_boxes, band):
            edges, box, sign = rings[index]
            by_rings += sign * int(_filled(edges, box, band, xs)[1].sum(dtype=np.int64))
        by_points += int(covered.sum(dtype=np.int64))
    area = float(step**2)
    return (by_rings - by_polygons) * area, (by_polygons - by_points) * area


def _between(
    edges: Sequence[NDArray[np.float64]],
    boxes: NDArray[np.float64],
    owners: NDArray[np.int64],
    wl_hw: tuple[int, int],
) -> float:
    """Return by how much regions, each of them the union of its polygons, exceed their union."""
    if owners[-1] == 0:
        return 0.0
    ys, xs, step = _grid(boxes, wl_hw)
    again = 0
    for band in _bands(ys):
        counts = np.zeros((len(band), len(xs)), np.uint16)
        # There may be a hundred thousand regions, few of them in a band.
        for _, group in groupby(_meeting(boxes, band), lambda index: owners[index]):
            parts = list(group)
            if len(parts) == 1:  # most are: a union of one is itself
                place, filled = _filled(edges[parts[0]], boxes[parts[0]], band, xs)
                counts[place] += filled
                continue
            rows, columns = _place(_around(boxes[parts]), band, xs)
            covered = np.zeros((len(band[rows]), len(xs[columns])), np.uint8)
            for index in parts:
                place, filled = _filled(edges[index], boxes[index], band[rows], xs[columns])
                covered[place] |= filled
            counts[rows, columns] += covered
        again += int(np.maximum(counts, 1).sum(dtype=np.int64)) - counts.size
    return float(again * step**2)


def _grid(
    boxes: NDArray[np.float64], wl_hw: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return rows and columns of points over boxes, as far as they lie on the slide; their step."""
    around = _around(boxes)
    low = np.maximum(np.floor(around[:2]), 0)
    high = np.minimum(np.ceil(around[2:]), wl_hw[::-1])
    longest = float((high - low).max())
    step = _FINE_STEP if longest <= _SMALL_PX else max(1.0, math.ceil(longest / _MOST_POINTS))
    xs, ys = (np.arange(a + step / 2, b, step) for a, b in zip(low, high, strict=True))
    return ys, xs, step


def _bands(ys: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(ys), _BAND_POINTS):
        yield ys[start : start + _BAND_POINTS]


def _meeting(boxes: NDArray[np.float64], band: NDArray[np.float64]) -> list[int]:
    """Return which boxes a band of rows meets, ascending."""
    return list(np.flatnonzero((boxes[:, 1] <= band[-1]) & (boxes[:, 3] >= band[0])).tolist())


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


def _filled(
    edges: NDArray[np.float64],
    box: NDArray[np.float64],
    ys: NDArray[np.float64],
    xs: NDArray[np.float64],
) -> tuple[tuple[slice, slice], NDArray[np.uint8]]:
    """Return rows and columns of the points in a box, and which of them edges enclose."""
    from cellseg.runtime.kernels.polygon import fill_even_odd

    rows, columns = _place(box, ys, xs)
    filled = np.empty((len(ys[rows]), len(xs[columns])), np.uint8)
    if filled.size:
        fill_even_odd(edges, ys[rows], xs[columns], filled)
    return (rows, columns), filled


def _place(
    box: NDArray[np.float64], ys: NDArray[np.float64], xs: NDArray[np.float64]
) -> tuple[slice, slice]:
    """Return rows and columns of the points in a box."""
    left, top, right, bottom = box
    return slice(*np.searchsorted(ys, (top, bottom))), slice(*np.searchsorted(xs, (left, right)))


def _around(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
