"""Regions that somebody drew: polygons of a GeoJSON file, in level-0 pixels.

QuPath and others write a FeatureCollection, a Feature, a bare geometry, a GeometryCollection or a
list of Features; all of them are read, also gzipped. A Polygon's first ring is its outline and the
others are holes; points and lines have no inside and are left out. Coordinates are corners: (0, 0)
is the outer corner of the first pixel, (0.5, 0.5) its centre.
"""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import RegionError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Region", "class_name", "parse_regions", "read_regions"]

_LOG = logging.getLogger(__name__)
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_BYTES = 512 << 20
_HINT = "Export annotations from QuPath as GeoJSON (File > Export objects as GeoJSON)."
_MOST_DEPTH = 16
_MOST_PAIRS = 50_000_000
_SCAN_LINES = 4096


@dataclass(frozen=True, eq=False)
class Region:
    """One thing that was drawn.

    Parameters
    ----------
    name : str or None
        What it was called; a QuPath object's name, else its class.
    polygons : tuple of tuples of float64 arrays, shape (n, 2)
        Rings of each polygon, outline first, then holes; (x, y) in level-0 pixels. The last point
        leads back to the first, which is not repeated.
    crosses : bool
        Whether a ring crosses itself. What lies within it an even number of times is outside then.
    doubts : tuple of str
        What had to be mended, for the user.
    """

    name: str | None
    polygons: tuple[tuple[NDArray[np.float64], ...], ...]
    crosses: bool = False
    doubts: tuple[str, ...] = ()

    @property
    def l0_area_px(self) -> float:
        """Area in level-0 pixels: outlines less their holes, as if nothing overlapped."""
        some = [rings for rings in self.polygons if rings]
        if self.crosses:
            return sum(_even_odd_area(rings) for rings in some)
        return sum(_area(rings[0]) - sum(_area(hole) for hole in rings[1:]) for rings in some)

    def within(self, width: float, height: float) -> Region:
        """Return what lies on a slide of that size; where nothing does, a polygon has no rings."""
        polygons = tuple(
            tuple(ring for ring in (_clipped(ring, width, height) for ring in rings) if len(ring))
            for rings in self.polygons
        )
        return replace(self, polygons=polygons)


def read_regions(path: str | os.PathLike[str]) -> tuple[Region, ...]:
    """Read the polygons of a GeoJSON file.

    Parameters
    ----------
    path : path
        ``.geojson`` or ``.json``, or gzipped: what it holds counts, not its name.

    Returns
    -------
    tuple of Region
        At least one, in the order of the file.

    Raises
    ------
    RegionError
        If the file cannot be read, is not GeoJSON, or holds no polygon.
    """
    try:
        text = _content(Path(path))
        value = json.loads(text)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise RegionError(
            f"{path}: the region file cannot be read: {reason}.",
            hint="Check its path, or copy it again.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise RegionError(f"{path}: a region file must be GeoJSON: {error}.", hint=_HINT) from error
    return parse_regions(value, str(path))


def parse_regions(value: Any, name: str = "<regions>") -> tuple[Region, ...]:
    """Take the polygons out of GeoJSON that is read already.

    Parameters
    ----------
    value : JSON value
        What ``json.loads`` gave.
    name : str
        For messages.

    Raises
    ------
    RegionError
        As `read_regions`.

    Examples
    --------
    >>> square = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]]}
    >>> parse_regions(square)[0].l0_area_px
    16.0
    """
    others: list[str] = []
    try:
        found = tuple(_regions(value, None, others, 0))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise RegionError(
            f"{name}: a region file must be GeoJSON: {_reason(error)}", hint=_HINT
        ) from error
    if not found:
        kinds = ", ".join(sorted(set(others))) or "no geometry"
        raise RegionError(
            f"{name}: a region file must hold a polygon. Received: {kinds}.",
            hint="Points and lines have no inside: draw areas around what is to be run.",
        )
    if others:
        _LOG.warning("%s: %d points or lines have no inside and are left out", name, len(others))
    return tuple(map(_checked, found))


def _checked(region: Region) -> Region:
    """Note a region that crosses itself."""
    for rings in region.polygons:
        for ring in rings:
            if (corner := _crossing(ring)) is not None:
                doubt = (
                    f"crosses itself near x={corner[0]:g}, y={corner[1]:g}; what lies within it "
                    "an even number of times is taken as outside"
                )
                return replace(region, crosses=True, doubts=(*region.doubts, doubt))
    return region


def _crossing(ring: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return a corner beside which a ring crosses itself; None if it does not."""
    from cellseg.runtime.kernels.polygon import find_crossing

    order = np.argsort(np.minimum(ring[:, 0], np.roll(ring[:, 0], -1)), kind="stable")
    edge = find_crossing(ring, order, _MOST_PAIRS)
    return None if edge < 0 else ring[edge]


def _content(path: Path) -> bytes:
    data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else None
    if data is not None and data.startswith(_GZIP_MAGIC):
        with gzip.open(path) as file:
            unpacked = file.read(_MOST_BYTES + 1)
        data = unpacked if len(unpacked) <= _MOST_BYTES else None
    if data is None:
        raise RegionError(
            f"{path}: a region file must have at most {_MOST_BYTES >> 20} MiB of text."
        )
    return data


def _reason(error: Exception) -> str:
    """Say what is wrong with the form of a file."""
    if isinstance(error, RegionError):
        return str(error)
    if isinstance(error, KeyError):
        return f"a member {error} is missing."
    return "a list or an object is expected where there is something else."


def _regions(value: Any, name: str | None, others: list[str], depth: int) -> Iterator[Region]:
    """Yield what lies in a GeoJSON object, whatever is nested how."""
    if depth > _MOST_DEPTH:
        raise RegionError(f"geometries are nested more than {_MOST_DEPTH} deep.")
    if isinstance(value, list):  # QuPath of old wrote the features alone
        for item in value:
            yield from _regions(item, name, others, depth + 1)
        return
    kind = value["type"]
    if kind == "FeatureCollection":
        yield from _regions(value["features"], None, others, depth + 1)
    elif kind == "Feature":
        if value["geometry"] is not None:
            found = _name(value.get("properties") or {})
            yield from _regions(value["geometry"], found, others, depth + 1)
    elif kind == "GeometryCollection":
        yield from _regions(value["geometries"], name, others, depth + 1)
    elif kind in ("Polygon", "MultiPolygon"):
        many = value["coordinates"] if kind == "MultiPolygon" else [value["coordinates"]]
        polygons = tuple(tuple(map(_ring, rings)) for rings in many if rings)
        is_closed = all(points[0] == points[-1] for rings in many for points in rings)
        if polygons:
            doubts = () if is_closed else ("is not closed; its ends are joined",)
            yield Region(name, polygons, doubts=doubts)
    elif kind in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        others.append(kind)
    else:
        raise RegionError(f"type {kind!r} is not one of GeoJSON's.")


def class_name(properties: dict[str, Any]) -> str | None:
    """Return the class of a QuPath object, in whichever of its forms; None without one.

    A classification is an object with a ``name``, or, of a derived class, with ``names`` that are
    joined as QuPath shows them (``Tumor: Positive``), or plain text.
    """
    found = properties.get("classification")
    if isinstance(found, dict):
        names = found.get("names")
        joined = ": ".join(map(str, names)) if isinstance(names, list) else ""
        found = found.get("name") or joined
    return str(found) if found else None


def _name(properties: dict[str, Any]) -> str | None:
    found = properties.get("name") or class_name(properties)
    return None if found is None else str(found)


def _ring(points: list[list[float]]) -> NDArray[np.float64]:
    """Check a ring; drop the point that repeats the first, and all but x and y."""
    ring: NDArray[np.float64]
    try:
        ring = np.array([(point[0], point[1]) for point in points], np.float64).reshape(-1, 2)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise RegionError(f"a ring is a list of [x, y]. Received: {str(points)[:60]}.") from error
    if not np.isfinite(ring).all():
        raise RegionError("coordinates must be finite numbers.")
    if len(ring) > 1 and (ring[0] == ring[-1]).all():
        ring = ring[:-1]
    if len(ring) < 3:
        raise RegionError(f"a polygon's ring must have at least 3 points. Received: {len(ring)}.")
    return ring


def _clipped(ring: NDArray[np.float64], width: float, height: float) -> NDArray[np.float64]:
    """Cut off what lies beyond each side in turn (Sutherland and Hodgman 1974).

    Parts that come apart stay joined by lines there and back along a side: they have no area.
    """
    for axis, side, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
        depth = sign * (ring[:, axis] - side)
        if (depth >= 0).all():
            continue
        after, deeper = np.roll(ring, -1, axis=0), np.roll(depth, -1)
        leaves = (depth >= 0) != (deeper >= 0)
        share = depth / np.where(leaves, depth - deeper, 1)
        pairs = np.stack([ring, ring + share[:, None] * (after - ring)], axis=1)
        ring = pairs[np.stack([depth >= 0, leaves], axis=1)]
    return ring


def _even_odd_area(rings: tuple[NDArray[np.float64], ...]) -> float:
    """Area of what lies within rings an odd number of times, to a few parts in ten thousand."""
    ends = [np.concatenate([ring, np.roll(ring, -1, axis=0)], axis=1) for ring in rings]
    x0, y0, x1, y1 = np.concatenate(ends).T
    edges = np.linspace(y0.min(), y0.max(), _SCAN_LINES + 1)
    total = 0.0
    for y in (edges[1:] + edges[:-1]) / 2:
        cut = (y0 <= y) != (y1 <= y)
        x = np.sort(x0[cut] + (y - y0[cut]) * (x1[cut] - x0[cut]) / (y1[cut] - y0[cut]))
        total += float((x[1::2] - x[::2]).sum())
    return total * float(edges[1] - edges[0])


def _area(ring: NDArray[np.float64]) -> float:
    x, y = (ring - ring[0]).T  # near the origin little is cancelled, and what leads back is 0
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(y[:-1], x[1:]))) / 2
