"""Outlines: valid polygons that hold the pixels of their cell and no others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import contains_xy
from shapely.geometry import MultiPolygon, Polygon
from shapely.validation import explain_validity

from cellseg.runtime.shapes.outlines import Outlines
from tests.cell_pictures import blobs, measured


def polygons(outlines: Outlines, boxes: np.ndarray) -> list[MultiPolygon]:
    """Each cell as shapely has it, in pixels of the image."""
    points = outlines.wl_points(boxes)
    rings = np.split(points, np.cumsum(outlines.ring_sizes)[:-1])
    found, at = [], 0
    for count in outlines.ring_counts:
        parts: list[list[np.ndarray]] = []
        for ring, area in zip(rings[at : at + count], outlines.areas[at : at + count], strict=True):
            if area > 0:
                parts.append([])
            parts[-1].append(ring)
        found.append(MultiPolygon([Polygon(part[0], part[1:]) for part in parts]))
        at += count
    return found


def pixels_in(polygon: MultiPolygon, hw: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: hw[0], : hw[1]] + 0.5
    return np.asarray(contains_xy(polygon, x.ravel(), y.ravel())).reshape(hw)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5]))
@settings(max_examples=8, deadline=None)
def test_a_polygon_holds_the_centres_of_its_pixels_and_no_others(
    seed: int, tolerance_px: float
) -> None:
    labels = blobs(seed, (40, 50))
    cells = measured(labels, tolerance_px=tolerance_px)
    for number, polygon in enumerate(polygons(cells.outlines, cells.records["box"]), start=1):
        assert polygon.is_valid
        np.testing.assert_array_equal(pixels_in(polygon, labels.shape), labels == number)


def test_exact_outlines_have_the_area_of_their_pixels() -> None:
    cells = measured(blobs(3), tolerance_px=0)
    found = [polygon.area for polygon in polygons(cells.outlines, cells.records["box"])]
    np.testing.assert_array_equal(found, cells.records["area_px"])


@pytest.mark.parametrize("tolerance_px", [1.0, 3.0, 10.0])
def test_coarse_outlines_are_valid_and_of_fewer_points(tolerance_px: float) -> None:
    labels = np.kron(blobs(4, (60, 60)), np.ones((4, 4), np.uint32))
    fine, coarse = measured(labels), measured(labels, tolerance_px=tolerance_px)
    found = polygons(coarse.outlines, coarse.records["box"])
    assert all(polygon.is_valid and polygon.area > 0 for polygon in found)
    assert len(coarse.outlines.points) < 0.8 * len(fine.outlines.points)


@pytest.mark.parametrize(
    "picture", [".#../####/#.#./.##.", "#####/#...#/#.#.#/#...#/#####", "##../.##./..##/.##."]
)
@pytest.mark.parametrize("tolerance_px", [2.0, 3.0, 5.0, 20.0])
def test_rings_keep_their_places_however_coarse(picture: str, tolerance_px: float) -> None:
    labels = np.array([[c == "#" for c in row] for row in picture.split("/")]).astype(np.uint32)
    exact, coarse = measured(labels), measured(labels, tolerance_px=tolerance_px)
    (polygon,) = polygons(coarse.outlines, coarse.records["box"])
    assert polygon.is_valid, explain_validity(polygon)
    np.testing.assert_array_equal(np.sign(coarse.outlines.areas), np.sign(exact.outlines.areas))


def test_no_point_of_a_side_lies_further_away_than_the_tolerance() -> None:
    labels = np.kron(blobs(6, (40, 40)), np.ones((3, 3), np.uint32))
    exact, coarse = measured(labels, tolerance_px=0), measured(labels, tolerance_px=1.0)
    boxes = exact.records["box"]
    pairs = zip(polygons(exact.outlines, boxes), polygons(coarse.outlines, boxes), strict=True)
    # Corners are cut by 0.36 at most, where an outline goes from the middle of a side to the next.
    assert max(a.hausdorff_distance(b) for a, b in pairs) < 0.7 + 0.36


def test_holes_are_holes_and_touching_corners_stay_together() -> None:
    labels = np.array(
        [
            [1, 1, 1, 1, 0],
            [1, 0, 1, 0, 1],
            [1, 1, 0, 0, 1],
            [1, 1, 1, 1, 1],
        ],
        np.uint32,
    )
    for tolerance_px in (0.0, 0.5):
        cells = measured(labels, tolerance_px=tolerance_px)
        (polygon,) = polygons(cells.outlines, cells.records["box"])
        assert polygon.is_valid
        np.testing.assert_array_equal(pixels_in(polygon, labels.shape), labels == 1)
    assert polygon.geoms[0].interiors


def test_pieces_that_do_not_touch_are_several_polygons_each_with_its_holes() -> None:
    labels = np.zeros((12, 20), np.uint32)
    labels[0:7, 0:7] = labels[5:10, 10:15] = 1
    labels[2:5, 2:5] = labels[7, 12] = 0
    labels[0, 12] = 1
    cells = measured(labels)
    (polygon,) = polygons(cells.outlines, cells.records["box"])
    assert polygon.is_valid
    assert [len(part.interiors) for part in polygon.geoms] == [1, 0, 1]
    np.testing.assert_array_equal(pixels_in(polygon, labels.shape), labels == 1)
