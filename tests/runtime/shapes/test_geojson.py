"""Regions as QuPath and others write them, and what is no region."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LinearRing

from cellseg.errors import RegionError
from cellseg.runtime.shapes.geojson import parse_regions, read_regions

if TYPE_CHECKING:
    from pathlib import Path

OUTLINE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [2, 4], [4, 4], [4, 2], [2, 2]]
POLYGON = {"type": "Polygon", "coordinates": [OUTLINE, HOLE]}
MULTI = {"type": "MultiPolygon", "coordinates": [[OUTLINE], [[[20, 0], [30, 0], [30, 5.5]]]]}


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    """Wrap a geometry as QuPath does."""
    facts = {"objectType": "annotation", **properties}
    return {"type": "Feature", "id": "7", "geometry": geometry, "properties": facts}


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "value",
    [
        POLYGON,
        feature(POLYGON),
        {"type": "FeatureCollection", "features": [feature(POLYGON), feature(None)]},
        [feature(POLYGON)],
        {"type": "GeometryCollection", "geometries": [POLYGON, {"type": "Point"}]},
        feature({"type": "Polygon", "coordinates": [[[*p, 3] for p in OUTLINE], HOLE]}),
    ],
    ids=["bare", "feature", "collection", "list", "geometries", "three coordinates"],
)
def test_a_polygon_is_found_however_it_is_wrapped(tmp_path: Path, value: Any) -> None:
    (region,) = read_regions(written(tmp_path / "r.geojson", value))
    ((outline, hole),) = region.polygons
    assert outline.tolist() == OUTLINE[:-1]
    assert hole.shape == (4, 2)
    assert region.l0_area_px == 100 - 4


def test_names_are_the_objects_own_or_their_class(tmp_path: Path) -> None:
    value = [
        feature(MULTI, name="rim", classification={"name": "Tumor"}),
        feature(POLYGON, classification={"name": "Stroma", "color": [1, 2, 3]}),
        feature(POLYGON),
        feature(POLYGON, classification={"names": ["Tumor", "Positive"], "color": [1, 2, 3]}),
        feature(POLYGON, classification="Necrosis"),
    ]
    regions = read_regions(written(tmp_path / "r.json", value))
    names = [region.name for region in regions]
    assert names == ["rim", "Stroma", None, "Tumor: Positive", "Necrosis"]
    assert [len(region.polygons) for region in regions] == [2, 1, 1, 1, 1]
    assert regions[0].l0_area_px == 100 + 27.5


def test_a_gzipped_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "r.geojson"
    path.write_bytes(gzip.compress(json.dumps(POLYGON).encode()))
    assert len(read_regions(path)) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must be GeoJSON"),
        ("\x00\xff", "must be GeoJSON"),
        ("[" * 100_000, "must be GeoJSON"),
        ("[" * 40 + "]" * 40, "nested more than 16 deep"),
        ('{"a": 1}', "must be GeoJSON: a member 'type' is missing"),
        ("3", "must be GeoJSON: a list or an object is expected"),
        ('{"type": "Blob"}', "'Blob' is not one of"),
        ('{"type": "Polygon"}', "a member 'coordinates' is missing"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, "a"], [2, 2]]]}', r"a list of \[x, y\]"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1], [2, 2]]]}', r"a list of \[x, y\]"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1e999], [2, 2]]]}', "finite"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}', "at least 3 points"),
        ('{"type": "Polygon", "coordinates": []}', "must hold a polygon"),
        ("[]", "must hold a polygon. Received: no geometry"),
        ('{"type": "Point", "coordinates": [1, 2]}', "must hold a polygon. Received: Point"),
    ],
)
def test_what_is_no_region_is_refused_with_the_reason(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "r.geojson"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(RegionError, match=message) as caught:
        read_regions(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_broken_archive_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RegionError, match="cannot be read"):
        read_regions(tmp_path / "none.geojson")
    path = tmp_path / "r.geojson.gz"
    path.write_bytes(gzip.compress(json.dumps(POLYGON).encode())[:30])
    with pytest.raises(RegionError, match="cannot be read"):
        read_regions(path)


def test_a_ring_that_crosses_itself_is_taken_by_even_and_odd() -> None:
    bow_tie = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]
    (region,) = parse_regions({"type": "Polygon", "coordinates": [bow_tie]})
    assert region.crosses
    assert region.l0_area_px == pytest.approx(50, rel=1e-3)  # two triangles, not their difference
    assert "crosses itself near" in region.doubts[0]


def test_a_ring_that_is_not_closed_is_closed() -> None:
    ring = [[0, 0], [10, 0], [10, 10]]
    (region,) = parse_regions({"type": "Polygon", "coordinates": [ring]})
    assert (region.l0_area_px, region.crosses) == (50, False)
    assert region.doubts == ("is not closed; its ends are joined",)
    (closed,) = parse_regions({"type": "Polygon", "coordinates": [[*ring, ring[0]]]})
    assert closed.doubts == ()


@given(st.integers(0, 2**32 - 1), st.integers(4, 12))
@settings(max_examples=40, deadline=None)
def test_rings_cross_themselves_where_shapely_says_so(seed: int, corners: int) -> None:
    ring = np.random.default_rng(seed).uniform(0, 100, (corners, 2))
    (region,) = parse_regions(
        {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]}
    )
    assert region.crosses != LinearRing(ring).is_simple
