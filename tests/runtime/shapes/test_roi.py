"""Regions of interest: tiles that touch them, pixels inside, whatever the window."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

from cellseg.errors import RegionError, StoreError
from cellseg.runtime.run.inside import Inside
from cellseg.runtime.shapes.geojson import Region
from cellseg.runtime.shapes.roi import Roi, read_roi
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.labels import ArrayLabels
from cellseg.runtime.tiles.plan import plan_tiles
from tests.fakes import fake_bundle, nuclei_picture, run_fake

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HW = (150, 220)


def region(*rings: list[tuple[float, float]], name: str | None = None) -> Region:
    return Region(name, (tuple(np.array(ring, float) for ring in rings),))


def box(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def random_roi(seed: int) -> Roi:
    """Stars with holes and thin triangles, some of them beyond the border."""
    rng = np.random.default_rng(seed)
    regions = []
    for _ in range(int(rng.integers(1, 6))):
        centre, angles = rng.random(2) * (220, 150), np.sort(rng.random(9)) * 2 * np.pi
        spokes = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        ring = centre + spokes * (rng.random((9, 1)) * 60 + 2)
        regions.append(Region(None, ((ring, centre + (ring - centre) * 0.4),)))
    return Roi.of(regions, 1.0, (400, 400), "r")


def random_star(rng: np.random.Generator) -> np.ndarray:
    """One that does not cross itself, around (0, 0)."""
    angles = (np.arange(7) + rng.random(7) * 0.9) * 2 * np.pi / 7
    spokes = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(spokes * (rng.random((7, 1)) * 150 + 20))


def test_pixels_are_inside_by_their_centres_and_holes_are_not() -> None:
    roi = Roi.of([region(box(10, 20, 30.5, 40.4), box(15, 25, 20, 30))], 1.0, HW, "r")
    expected = np.zeros(HW, bool)
    expected[20:40, 10:30] = True  # 30.5: a centre on a right edge is outside
    expected[25:30, 15:20] = False
    np.testing.assert_array_equal(roi.inside(0, 0, HW), expected)
    assert roi.l0_area_px == pytest.approx(20.5 * 20.4 - 25)


def test_what_lies_beside_the_slide_is_no_area() -> None:
    beyond = Roi.of([region(box(-50, 100, 40, 400), box(-10, 120, 10, 130))], 1.0, HW, "r")
    assert beyond.l0_area_px == pytest.approx(40 * 50 - 100)
    assert beyond.inside(0, 0, HW).sum() == 40 * 50 - 100
    comb = [(10, -10), (20, 30), (30, -10), (40, 30), (50, -10)]  # two teeth on the slide
    teeth = Roi.of([region(comb)], 1.0, HW, "r")
    assert teeth.l0_area_px == pytest.approx(2 * (30 * 15) / 2)
    round_the_corner = [(-40.0, 1.0), (1.0, -40.0), (-40.0, -40.0), (-60.0, 60.0)]
    assert Roi.of([region(round_the_corner)], 1.0, HW, "r").l0_area_px == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.booleans())
def test_a_regions_area_is_that_of_its_pixels_on_the_slide(seed: int, crosses: bool) -> None:
    rng = np.random.default_rng(seed)
    ring = random_star(rng) + np.array([110, 75])
    if crosses:
        rng.shuffle(ring)
    roi = Roi.of([Region(None, ((ring,),), crosses=crosses)], 1.0, HW, "r")
    assert roi.l0_area_px == pytest.approx(roi.inside(0, 0, HW).sum(), abs=150)


def test_level_0_pixels_become_pixels_of_the_working_level() -> None:
    fine = Roi.of([region(box(40, 80, 120, 160))], 4.0, (75, 110), "r")
    assert fine.inside(0, 0, (75, 110)).sum() == 20 * 20
    assert fine.inside(20, 10, (20, 20)).all()


def test_where_regions_overlap_both_count() -> None:
    both = [region(box(0, 0, 50, 50), name="a"), region(box(25, 25, 80, 80), name="b")]
    roi = Roi.of(both, 1.0, HW, "r")
    assert roi.inside(0, 0, HW).sum() == 2500 + 55 * 55 - 25 * 25
    assert roi.l0_area_px == 2500 + 55 * 55 - 25 * 25  # but their common area once
    assert [each.name for each in roi.regions] == ["a", "b"]


@pytest.mark.parametrize("most", [4096, 100])
def test_the_area_of_regions_is_that_of_their_union(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("cellseg.runtime.shapes.areas._MOST_POINTS", most)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rings = [random_star(rng) + rng.random(2) * (220, 150) for _ in range(4)]
        roi = Roi.of([Region(None, ((ring,),)) for ring in rings], 1.0, HW, "r")
        inside = roi.inside(0, 0, HW).sum()
        assert roi.l0_area_px == pytest.approx(inside, rel=0.01 if most > 400 else 0.03, abs=30)
    halves = [region(box(3, 5, 50.5, 60)), region(box(50.5, 5, 90, 60))]
    assert Roi.of(halves, 2.0, HW, "r").l0_area_px == 87 * 55  # they share an edge, no area


@pytest.mark.parametrize(
    ("polygons", "area", "doubt"),
    [
        ([[box(0, 0, 100, 90)], [box(50, 0, 150, 90)]], 150 * 90, "parts that overlap"),
        ([[box(0, 0, 90, 90), box(10, 10, 50, 50), box(30, 30, 70, 70)]],
         8100 - 2 * 1600 + 2 * 400, "holes that overlap"),  # where both are, three rings are
        ([[box(0, 0, 90, 90), box(50, 50, 130, 130)]], 8100 + 80 * 80 - 2 * 1600, "holes that"),
        ([[box(0, 0, 90, 90), box(10, 10, 50, 50)], [box(20, 20, 30, 30)]], 8100 - 1600 + 100, ""),
    ],
    ids=["parts", "two holes", "a hole reaches out", "an island in a hole"],
)  # fmt: skip
@pytest.mark.parametrize("l0_per_wl", [1.0, 2.0])
def test_each_place_of_a_region_counts_once(
    polygons: list[list[list[tuple[float, float]]]], area: float, doubt: str, l0_per_wl: float
) -> None:
    rings = tuple(tuple(np.array(ring, float) for ring in polygon) for polygon in polygons)
    alone = box(160, 100, 170, 110)
    roi = Roi.of([Region("a", rings), region(alone)], l0_per_wl, HW, "r")
    assert roi.l0_areas_px == (area, 100.0)
    assert roi.l0_area_px == area + 100
    assert doubt in "".join(roi.regions[0].doubts)
    assert bool(roi.regions[0].doubts) == bool(doubt)
    assert roi.count_px(HW) == roi.inside(0, 0, HW).sum() == (area + 100) / l0_per_wl**2


@settings(deadline=None, max_examples=20)
@given(st.floats(10, 90_000), st.floats(10, 90_000))
def test_overlaps_of_a_small_region_are_found_on_a_large_slide(x: float, y: float) -> None:
    parts = tuple((np.array(box(x + d, y, x + d + 40, y + 40)),) for d in (0, 2, 4))
    far = region(box(99_000, 99_000, 99_100, 99_100))
    roi = Roi.of([Region("a", parts), far], 2.0, (50_000, 50_000), "r")
    assert roi.l0_areas_px[0] == pytest.approx(44 * 40, rel=0.02)


def test_a_ring_that_takes_itself_away_is_refused(tmp_path: Path) -> None:
    twice = [box(10, 10, 50, 50), box(10, 10, 50, 50)]
    path = tmp_path / "r.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": twice}))
    with pytest.raises(RegionError, match="must have an area"):
        read_roi(path, 1.0, HW)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 100), st.integers(0, 150), st.data())
def test_a_window_holds_what_the_whole_does(
    seed: int, y0: int, x0: int, data: st.DataObject
) -> None:
    roi = random_roi(seed)
    h, w = data.draw(st.integers(1, HW[0] - y0)), data.draw(st.integers(1, HW[1] - x0))
    whole = roi.inside(0, 0, HW)
    np.testing.assert_array_equal(roi.inside(y0, x0, (h, w)), whole[y0 : y0 + h, x0 : x0 + w])
    shown = Inside(ArrayLabels(np.full(HW, 7, np.uint32)), roi)
    assert (shown.hw, shown.dtype) == (HW, np.uint32)
    np.testing.assert_array_equal(
        shown.read(y0, x0, h, w), 7 * whole[y0 : y0 + h, x0 : x0 + w].astype(np.uint32)
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, 40), st.integers(0, 100), st.integers(0, 150))
def test_within_reach_is_what_has_a_pixel_of_a_region_near(
    seed: int, reach_px: int, y0: int, x0: int
) -> None:
    roi = replace(random_roi(seed), reach_px=reach_px)
    wide = roi.inside(-50, -50, (HW[0] + 100, HW[1] + 100))
    expected = maximum_filter(wide, 2 * reach_px + 1)[50:-50, 50:-50]
    np.testing.assert_array_equal(roi.within_reach(0, 0, HW), expected)
    part = np.ones((HW[0] - y0, HW[1] - x0), np.uint8)
    roi.blank_beyond(part, y0, x0)
    np.testing.assert_array_equal(part.astype(bool), expected[y0:, x0:])
    plan = plan_tiles(HW, 32, 4, 4)
    touched = roi.touches(plan)
    for tile in plan:
        if expected[tile.outer].any():
            assert touched[tile.index], str(tile)
    assert reach_px == 0 or roi.digest != replace(roi, reach_px=0).digest


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([32, 48, 64]), st.sampled_from([0, 4, 8]))
def test_every_tile_with_a_pixel_inside_is_touched(seed: int, tile_px: int, halo_px: int) -> None:
    roi, plan = random_roi(seed), plan_tiles(HW, tile_px, halo_px, 4)
    inside, touched = roi.inside(0, 0, HW), roi.touches(plan)
    assert touched.shape == (len(plan),)
    for tile in plan:
        if inside[tile.outer].any():
            assert touched[tile.index], str(tile)


def test_tiles_that_no_region_touches_are_not_run() -> None:
    roi = Roi.of([region(box(70, 10, 75, 14)), region(box(0.0, 100, 31, 131))], 1.0, HW, "r")
    plan = plan_tiles(HW, 32, 0, 4)
    columns = len(plan.x)
    expected = {2, 3 * columns, 4 * columns}
    assert set(np.flatnonzero(roi.touches(plan)).tolist()) == expected


def test_a_hole_is_not_run() -> None:
    roi = Roi.of([region(box(0, 0, 220, 150), box(60, 60, 132, 132))], 1.0, HW, "r")
    plan = plan_tiles(HW, 32, 0, 4)
    missing = np.flatnonzero(~roi.touches(plan)).tolist()
    assert missing == [
        2 * len(plan.x) + 2,
        2 * len(plan.x) + 3,
        3 * len(plan.x) + 2,
        3 * len(plan.x) + 3,
    ]


def test_a_polygon_beside_the_slide_is_refused_with_its_place() -> None:
    regions = [region(box(0, 0, 5, 5)), region(box(900, 10, 950, 20))]
    with pytest.raises(
        RegionError, match=r"440 x 300 px.*polygon 2 of 2 with x=900..950"
    ) as caught:
        Roi.of(regions, 2.0, HW, "r.geojson")
    assert "full resolution" in str(caught.value.hint)


def test_a_polygon_in_another_frame_is_refused_or_said(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RegionError, match="larger than a pixel") as refused:
        Roi.of([region(box(0.1, 0.1, 0.9, 0.8))], 1.0, HW, "r")
    assert "millimetres" in str(refused.value.hint)
    Roi.of([region(box(-50, 5, 20, 20))], 1.0, HW, "r")
    assert "reaches beyond the slide" in caplog.text


def test_what_had_to_be_mended_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = [[0, 0], [10, 10], [10, 0], [0, 10]]
    drawn = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"name": "tumour"},
    }
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(drawn), encoding="utf-8")
    read_roi(path, 1.0, HW)
    assert f"{path}: region 1 (tumour) is not closed" in caplog.text
    assert f"{path}: region 1 (tumour) crosses itself" in caplog.text


def test_the_digest_is_that_of_the_geometry() -> None:
    first, same = (Roi.of([region(box(0, 0, 9, 9), name=n)], 1.0, HW, n) for n in "ab")
    other = Roi.of([region(box(0, 0, 9, 8))], 1.0, HW, "a")
    assert first.digest == same.digest != other.digest


def test_a_million_points_are_no_trouble() -> None:
    angles = np.linspace(0, 2 * np.pi, 10**6, endpoint=False)
    ring: NDArray[np.float64] = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 5000 + 5000
    roi = Roi.of([Region(None, ((ring,),))], 1.0, (10_000, 10_000), "r")
    assert roi.inside(4900, 4900, (200, 200)).all()
    assert not roi.inside(0, 0, (500, 500)).any()
    plan = plan_tiles((10_000, 10_000), 1024, 96, 16)
    assert 0.75 < roi.touches(plan).mean() < 1


def squares(path: Path, *boxes: tuple[float, float, float, float]) -> Path:
    """Write squares as a GeoJSON file."""
    rings = [[[[*point] for point in box(*each)]] for each in boxes]
    path.write_text(json.dumps({"type": "MultiPolygon", "coordinates": rings}), encoding="utf-8")
    return path


def test_a_run_is_background_outside_its_regions_and_the_same_inside(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    slide = ArraySlide(nuclei_picture(211, 305), mpp=0.5)
    where = squares(tmp_path / "r.geojson", (10, 20, 61.5, 70.2), (200, 100, 290, 190))
    part, engine = run_fake(slide, tmp_path / "a", bundle, tile_px=64, roi=where)
    whole, _ = run_fake(slide, tmp_path / "b", bundle, tile_px=64)
    found, all_of_it = (
        tifffile.imread(result.folder / "classes.ome.tif") for result in (part, whole)
    )
    inside = read_roi(where, 1.0, (211, 305)).inside(0, 0, (211, 305))
    np.testing.assert_array_equal(found, np.where(inside, all_of_it, 0))
    facts = part.report["roi"]
    assert (facts["path"], facts["regions"]) == (str(where), 1)
    assert facts["area_px"] == pytest.approx(51.5 * 50.2 + 8100)
    assert facts["area_mm2"] == pytest.approx(facts["area_px"] * 0.25e-6, rel=1e-4)
    assert whole.report["roi"] is None
    assert engine.calls == part.report["plan"]["tiles_total"] - part.report["plan"]["tiles_skipped"]
    assert part.report["plan"]["tiles_skipped"] > 0


def test_a_run_with_other_regions_is_another_run(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    slide = ArraySlide(nuclei_picture(90, 90))
    run_fake(slide, tmp_path / "out", bundle, roi=squares(tmp_path / "a.json", (0, 0, 50, 50)))
    with pytest.raises(StoreError, match="roi was"):
        run_fake(slide, tmp_path / "out", bundle, roi=squares(tmp_path / "b.json", (0, 0, 50, 60)))


def test_regions_that_cannot_be_used_are_refused_before_work(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    beside = squares(tmp_path / "r.json", (500, 500, 600, 600))
    with pytest.raises(RegionError, match="must lie on the slide of 90 x 90 px"):
        run_fake(ArraySlide(nuclei_picture(90, 90)), tmp_path / "out", bundle, roi=beside)
    assert not list((tmp_path / "out").iterdir())
