"""The rules by which QuPath reads objects from GeoJSON, checked more strictly than it does itself.

They are those of QuPath 0.4 to 0.6: its documentation ("Exporting annotations", GeoJSON), what its
``QuPathTypeAdapters`` and ``ROITypeAdapters`` look for, the rings that JTS accepts, and RFC 7946,
which QuPath follows but for the frame: pixels of the full resolution, y downwards. QuPath overlooks
what it does not know (and would take a misspelled ``objectType`` for an annotation), hence unknown
members are errors here.
"""

from __future__ import annotations

import gzip
import json
import math
import uuid
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Ring = list[list[float]]

_DEPTHS = {"Polygon": 0, "MultiPolygon": 1}


def read_objects(path: Path, width: int, height: int) -> list[dict[str, Any]]:
    """Return the features of a gzipped file that QuPath opens without loss.

    Raises
    ------
    AssertionError
        Naming the rule that a feature breaks.
    """
    content = _strict_json(gzip.decompress(path.read_bytes()).decode("utf-8"))
    assert list(content) == ["type", "features"]
    assert content["type"] == "FeatureCollection"
    features: list[dict[str, Any]] = content["features"]
    for feature in features:
        _check_feature(feature, width, height)
    ids = [feature["id"] for feature in features]
    assert len(set(ids)) == len(ids), "an id stands for one object"
    return features


def _strict_json(text: str) -> Any:
    """Parse JSON that has no NaN and names no member twice: QuPath's parser would let both pass."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a member is named once"
        return dict(pairs)

    def no_number(name: str) -> None:
        raise AssertionError(f"{name} is no number of JSON")

    return json.loads(text, parse_constant=no_number, object_pairs_hook=members)


def _check_feature(feature: dict[str, Any], width: int, height: int) -> None:
    assert set(feature) == {"type", "id", "geometry", "properties"}
    assert feature["type"] == "Feature"
    assert str(uuid.UUID(feature["id"])) == feature["id"], "an id is a UUID in its usual form"
    _check_geometry(feature["geometry"], width, height)
    properties = feature["properties"]
    assert set(properties) == {"objectType", "classification", "measurements"}
    assert properties["objectType"] in ("detection", "cell")
    _check_classification(properties["classification"])
    for name, value in properties["measurements"].items():
        assert name.strip() == name != ""
        assert type(value) in (int, float), f"{name} is a number"
        assert math.isfinite(value)


def _check_classification(found: dict[str, Any]) -> None:
    assert set(found) == {"name", "color"}
    assert found["name"].strip() == found["name"] != ""
    assert len(found["color"]) == 3
    assert all(type(value) is int and 0 <= value <= 255 for value in found["color"])


def _check_geometry(geometry: dict[str, Any], width: int, height: int) -> None:
    assert set(geometry) == {"type", "coordinates"}
    polygons = geometry["coordinates"] if _DEPTHS[geometry["type"]] else [geometry["coordinates"]]
    assert len(polygons) > _DEPTHS[geometry["type"]], "a MultiPolygon has several"
    for shell, *holes in polygons:
        assert _signed_area(shell) > 0, "an outline runs counterclockwise in (x, y)"
        assert all(_signed_area(hole) < 0 for hole in holes), "a hole runs the other way"
        for ring in (shell, *holes):
            _check_ring(ring, width, height)


def _check_ring(ring: Ring, width: int, height: int) -> None:
    assert len(ring) >= 4, "JTS wants four positions of a ring"
    assert ring[0] == ring[-1], "a ring is closed"
    assert all(a != b for a, b in pairwise(ring)), "no side is of no length"
    assert len({tuple(point) for point in ring}) == len(ring) - 1, "no point is passed twice"
    for point in ring:
        assert len(point) == 2
        assert all(type(value) in (int, float) for value in point)
        assert 0 <= point[0] <= width
        assert 0 <= point[1] <= height


def _signed_area(ring: Sequence[Sequence[float]]) -> float:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring)) / 2
