"""Regions of interest: which tiles they touch, which pixels lie outside all of them.

Polygons are kept as edges in pixels of the working level, in double precision. A pixel belongs to a
region if its centre does, and to the region of interest if it belongs to any of its polygons: where
two overlap, both count. Every answer is computed from edges and pixel centres alone, so that it is
the same for any window and any tile.

Where a model tells cells apart, those on a region's edge are wanted whole. So it is run a reach
further than the regions, and what lies within the reach is kept until cells have been told apart.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.errors import RegionError
from cellseg.runtime.shapes.areas import find_overlaps
from cellseg.runtime.shapes.geojson import read_regions
from cellseg.runtime.shapes.outlines import edges_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.shapes.geojson import Region
    from cellseg.runtime.tiles.plan import TilePlan

__all__ = ["Roi", "read_roi"]

_LOG = logging.getLogger(__name__)
_LEAST_PX = 1.0
_LEAST_OVERLAP_PX = 16.0
_BAND_PX = 256
_BESIDE_PX = 2.0  # what is drawn along the border may lie a little beside it


@dataclass(frozen=True, eq=False)
class Roi:
    """The union of drawn regions, in pixels of the working level.

    Parameters
    ----------
    path : str
        Where it came from.
    regions : tuple of Region
        What of them lies on the slide: names, and rings in level-0 pixels.
    edges : tuple of float64 arrays, shape (n, 4)
        Edges of each polygon, holes included: x0, y0, x1, y1 with y0 <= y1.
    boxes : float64, shape (p, 4)
        Least and largest x and y of each polygon: left, top, right, bottom.
    l0_areas_px : tuple of float
        Area of each region in level-0 pixels, as far as it lies on the slide.
    l0_area_px : float
        Area of their union.
    reach_px : int
        How far beyond the regions, along y and x, the model is run and maps are kept.
    """

    path: str
    regions: tuple[Region, ...]
    edges: tuple[NDArray[np.float64], ...]
    boxes: NDArray[np.float64]
    l0_areas_px: tuple[float, ...]
    l0_area_px: float
    reach_px: int = 0

    @classmethod
    def of(
        cls,
        regions: Sequence[Region],
        l0_per_wl: float,
        wl_hw: tuple[int, int],
        path: str,
        reach_px: int = 0,
    ) -> Roi:
        """Lay regions over a working level.

        Parameters
        ----------
        regions : sequence of Region
            At least one.
        l0_per_wl : float
            Level-0 pixels per pixel of the working level.
        wl_hw : (int, int)
            Its height and width.
        path : str
            Where they came from.
        reach_px : int
            See `Roi`.

        Raises
        ------
        RegionError
            If a polygon lies outside the slide: it was drawn on another one, or in other units.
        """
        rings = [polygon for region in regions for polygon in region.polygons]
        edges = tuple(
            np.concatenate([edges_of(ring / l0_per_wl) for ring in polygon]) for polygon in rings
        )
        # Of all rings: a hole that reaches out of its outline encloses what lies in it alone.
        points = (np.concatenate(polygon) for polygon in rings)
        boxes = np.array([(*each.min(axis=0), *each.max(axis=0)) for each in points])
        height, width = (side * l0_per_wl for side in wl_hw)
        twice = find_overlaps(regions, edges, boxes / l0_per_wl, l0_per_wl, wl_hw)
        kept = tuple(
            _doubted(region, *overlaps).within(width, height)
            for region, *overlaps in zip(regions, twice.of_rings, twice.of_parts, strict=True)
        )
        less = (twice.of_rings + twice.of_parts) * l0_per_wl**2
        areas = tuple(
            max(0.0, region.l0_area_px - float(px)) for region, px in zip(kept, less, strict=True)
        )
        area = max(0.0, sum(areas) - twice.of_regions * l0_per_wl**2)
        roi = cls(path, kept, edges, boxes / l0_per_wl, areas, area, reach_px)
        roi._check_inside(wl_hw, boxes, l0_per_wl)
        return roi

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return 2 * sum(edges.nbytes for edges in self.edges)  # edges, and the rings they came from

    @property
    def digest(self) -> str:
        """Hash of its geometry and reach: part of a run's identity."""
        found = hashlib.sha256(f"reach {self.reach_px};".encode() if self.reach_px else b"")
        for edges in self.edges:
            found.update(f"{len(edges)};".encode())
            found.update(edges.astype("<f8").tobytes())
        return found.hexdigest()

    def touches(self, plan: TilePlan) -> NDArray[np.bool_]:
        """Return for each tile of a plan whether its kept part touches what is within reach.

        Returns
        -------
        bool, shape (tiles,)
        """
        from cellseg.runtime.kernels.polygon import fill_even_odd, mark_touched

        y_edges = plan.y.keep_edges().astype(np.float64)
        x_edges = plan.x.keep_edges().astype(np.float64)
        ys, xs = (y_edges[1:] + y_edges[:-1]) / 2, (x_edges[1:] + x_edges[:-1]) / 2
        touched = np.zeros(plan.grid, np.uint8)
        for edges, (left, top, right, bottom) in zip(self.edges, self.boxes, strict=True):
            mark_touched(edges, y_edges, x_edges, touched)
            # A tile without an edge lies inside or outside as a whole, so its centre decides.
            rows = slice(np.searchsorted(ys, top), np.searchsorted(ys, bottom))
            columns = slice(np.searchsorted(xs, left), np.searchsorted(xs, right))
            inside = np.empty((len(ys[rows]), len(xs[columns])), np.uint8)
            if inside.size:
                fill_even_odd(edges, ys[rows], xs[columns], inside)
                touched[rows, columns] |= inside
        if self.reach_px:
            self._mark_reached(touched, plan)
        return touched.reshape(-1).astype(bool)

    def _mark_reached(self, touched: NDArray[np.uint8], plan: TilePlan) -> None:
        """Mark the tiles that only the reach touches."""
        # They lie around those that a region touches, or at the border, with a region beyond it.
        y_edges, x_edges = plan.y.keep_edges(), plan.x.keep_edges()
        down, right = (1 + self.reach_px // int(np.diff(e).min()) for e in (y_edges, x_edges))
        around = cv2.dilate(touched, np.ones((2 * down + 1, 2 * right + 1), np.uint8))
        for sides, count in ((around, down), (around.T, right)):
            sides[:count] = sides[-count:] = 1
        for row, column in np.argwhere((around > 0) & (touched == 0)):
            y0, x0 = int(y_edges[row]), int(x_edges[column])
            hw = int(y_edges[row + 1]) - y0, int(x_edges[column + 1]) - x0
            touched[row, column] = self.within_reach(y0, x0, hw).any()

    def within_reach(self, y0: int, x0: int, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which pixels of a window have a pixel of a region within the reach."""
        px = self.reach_px
        near = self.inside(y0 - px, x0 - px, (hw[0] + 2 * px, hw[1] + 2 * px))
        if not near.any() or near.all():
            return near[px : px + hw[0], px : px + hw[1]]
        side = np.ones(2 * px + 1, np.uint8)
        grown = cv2.dilate(cv2.dilate(near.view(np.uint8), side[:, None]), side[None])
        return np.asarray(grown[px : px + hw[0], px : px + hw[1]].view(bool))

    def inside(self, y0: int, x0: int, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which pixels of a window of the working level lie in a region, shape ``hw``."""
        y, x = (np.arange(a, a + n, dtype=np.float64) for a, n in zip((y0, x0), hw, strict=True))
        return self.at(y + 0.5, x + 0.5)

    def at(self, ys: NDArray[np.float64], xs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points of a grid on the working level lie in a region.

        Parameters
        ----------
        ys, xs : float64, shapes (h,) and (w,)
            Ascending; at least one each.

        Returns
        -------
        bool, shape (h, w)
        """
        from cellseg.runtime.kernels.polygon import fill_even_odd

        found = np.zeros((len(ys), len(xs)), np.uint8)
        left, top, right, bottom = self.boxes.T
        meets = (left <= xs[-1]) & (right > xs[0]) & (top <= ys[-1]) & (bottom > ys[0])
        for index in np.flatnonzero(meets).tolist():
            rows = slice(*np.searchsorted(ys, (top[index], bottom[index])))
            columns = slice(*np.searchsorted(xs, (left[index], right[index])))
            part = found[rows, columns]
            if part.size:
                filled = np.empty(part.shape, np.uint8)
                fill_even_odd(self.edges[index], ys[rows], xs[columns], filled)
                part |= filled
        return found.view(bool)

    def count_px(self, wl_hw: tuple[int, int]) -> int:
        """Count the pixels of a working level of that size which lie in a region."""
        left, top, right, bottom = self.boxes.T
        y0, x0 = max(0, int(top.min())), max(0, int(left.min()))
        y1, x1 = min(wl_hw[0], int(bottom.max()) + 1), min(wl_hw[1], int(right.max()) + 1)
        return sum(
            int(np.count_nonzero(self.inside(y, x0, (min(_BAND_PX, y1 - y), x1 - x0))))
            for y in range(y0, y1, _BAND_PX)
        )

    def holds(
        self, ys: NDArray[np.float64], xs: NDArray[np.float64]
    ) -> Iterator[NDArray[np.bool_]]:
        """Yield for each region which points of the working level lie in it.

        Parameters
        ----------
        ys, xs : float64, shape (n,)

        Yields
        ------
        bool, shape (n,)
        """
        from cellseg.runtime.kernels.polygon import points_inside

        index = 0
        for region in self.regions:
            found = np.zeros(len(ys), bool)
            for _ in region.polygons:
                left, top, right, bottom = self.boxes[index]
                near = np.flatnonzero((xs >= left) & (xs < right) & (ys >= top) & (ys < bottom))
                inside = np.empty(len(near), bool)
                points_inside(self.edges[index], ys[near], xs[near], inside)
                found[near] |= inside
                index += 1
            yield found

    def has(self, ys: NDArray[np.float64], xs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points of the working level lie in any region, bool (n,)."""
        found = np.zeros(len(ys), bool)
        for inside in self.holds(ys, xs):
            found |= inside
        return found

    def blank_beyond(self, plane: NDArray[Any], y0: int, x0: int) -> None:
        """Set what lies beyond the reach of all regions to 0, in place.

        Parameters
        ----------
        plane : array, shape (h, w)
            Part of a map of the working level.
        y0, x0 : int
            Its top-left corner.
        """
        kept = self.within_reach(y0, x0, (plane.shape[0], plane.shape[1]))
        if not kept.all():
            plane[~kept] = 0

    def _check_inside(
        self, wl_hw: tuple[int, int], l0_boxes: NDArray[np.float64], l0_per_wl: float
    ) -> None:
        """Refuse polygons of another slide or in other units; say which reach beyond the slide."""
        height, width = (round(side * l0_per_wl) for side in wl_hw)
        x0, y0, x1, y1 = l0_boxes.T
        if (index := _first((x1 - x0 < _LEAST_PX) & (y1 - y0 < _LEAST_PX))) is not None:
            raise RegionError(
                f"{self.path}: every polygon must be larger than a pixel. Received: "
                f"{_placed(l0_boxes, index)}.",
                hint="Coordinates are pixels of the full resolution: not parts of the slide's "
                "sides, millimetres or degrees.",
            )
        left, top, right, bottom = self.boxes.T
        inside = (left < wl_hw[1]) & (right > 0) & (top < wl_hw[0]) & (bottom > 0)
        if (index := _first(~inside)) is not None:
            raise RegionError(
                f"{self.path}: every polygon must lie on the slide of {width} x {height} px. "
                f"Received: {_placed(l0_boxes, index)}.",
                hint="Coordinates are pixels of the full resolution, and (0, 0) is the upper left "
                "corner. Was the file drawn on another slide?",
            )
        beyond = np.maximum(-np.minimum(x0, y0), np.maximum(x1 - width, y1 - height))
        if (index := _first(beyond > _BESIDE_PX)) is not None:
            _LOG.warning(
                "%s: %s reaches beyond the slide of %d x %d px; what lies outside does not count",
                *(self.path, _placed(l0_boxes, index), width, height),
            )


def _doubted(region: Region, of_rings: float, of_parts: float) -> Region:
    """Note what of a region overlaps; a point or two on the grid is no overlap."""
    doubts = []
    if abs(of_rings) > _LEAST_OVERLAP_PX:
        doubts.append(
            "has holes that overlap or reach out of it; what lies within an even number of its "
            "rings is taken as outside"
        )
    if of_parts > _LEAST_OVERLAP_PX:
        doubts.append("has parts that overlap; what lies in several counts once")
    return replace(region, doubts=(*region.doubts, *doubts)) if doubts else region


def _first(which: NDArray[np.bool_]) -> int | None:
    return int(np.argmax(which)) if which.any() else None


def _placed(boxes: NDArray[np.float64], index: int) -> str:
    x0, y0, x1, y1 = boxes[index]
    return f"polygon {index + 1} of {len(boxes)} with x={x0:g}..{x1:g}, y={y0:g}..{y1:g}"


def read_roi(
    path: str | os.PathLike[str], l0_per_wl: float, wl_hw: tuple[int, int], reach_px: int = 0
) -> Roi:
    """Read a GeoJSON file and lay it over a working level; see `read_regions` and `Roi.of`."""
    roi = Roi.of(read_regions(path), l0_per_wl, wl_hw, str(path), reach_px)
    if not roi.l0_area_px:
        raise RegionError(
            f"{path}: regions must have an area on the slide. Received: none in "
            f"{len(roi.regions)} regions.",
            hint="Lines have no inside, and a ring that is drawn twice takes itself away.",
        )
    for number, region in enumerate(roi.regions, start=1):
        for doubt in region.doubts:
            _LOG.warning("%s: region %d (%s) %s", path, number, region.name or "no name", doubt)
    return roi
