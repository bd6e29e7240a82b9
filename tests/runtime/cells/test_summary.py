"""What run.json says of cells, and of those in regions that were drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from shapely import contains_xy, from_wkb, unary_union
from shapely.geometry import Polygon

from cellseg.runtime.cells.summary import summarize_cells
from cellseg.runtime.slides.slide import ArraySlide, Level
from cellseg.runtime.view.doubts import small_doubt
from cellseg.runtime.view.working import WorkingView
from tests.fakes import CELL_HEAD, fake_bundle, nuclei_picture, run_fake

HW = (211, 305)
RINGS = {
    "tumour": [[20, 10], [150, 30], [140, 180], [30, 160]],
    "stroma": [[120, 20.3], [300, 20.3], [300, 200]],  # no centroid lies on an edge
}


def geojson(path: Path) -> Path:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            "properties": {"name": name},
        }
        for name, ring in RINGS.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def run(folder: Path, **options: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    head = CELL_HEAD
    bundle = fake_bundle(folder / "m.cellseg", head=head).path
    options = {"kind": "IdentityEngine", "tile_px": 64, "write": ("cells",)} | options
    result, _ = run_fake(ArraySlide(nuclei_picture(*HW), 0.5), folder, bundle, **options)
    return result.report, pd.read_parquet(result.folder / "cells.parquet")


def test_counts_densities_and_histograms_are_those_of_the_table(tmp_path: Path) -> None:
    report, frame = run(tmp_path)
    summary = report["cells_summary"]
    assert report["cells"] == {"nucleus": len(frame)}
    assert summary["total"] == len(frame)
    area_mm2 = HW[0] * HW[1] * 0.25e-6
    assert summary["area_mm2"] == pytest.approx(area_mm2, rel=1e-5)
    assert summary["density_per_mm2"] == pytest.approx(len(frame) / area_mm2, rel=1e-5)
    assert summary["classes"] == {"nucleus": {"count": len(frame), "fraction": 1}}
    assert summary["roi"] == []
    for name, histogram in summary["histograms"].items():
        edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"])
        assert counts.sum() == len(frame)
        assert len(counts) == len(edges) - 1 == 40
        # As numpy counts, with all that is larger in the last bin.
        clipped = np.minimum(frame[name], np.nextafter(np.float32(edges[-1]), np.float32(0)))
        expected = np.histogram(clipped, edges)[0]
        assert np.abs(counts - expected).sum() <= 2  # edges are written with six digits
        assert (frame[name] <= edges[-1]).mean() >= 0.99


def test_cells_are_counted_in_each_region_by_their_centroids(tmp_path: Path) -> None:
    report, frame = run(tmp_path, roi=geojson(tmp_path / "roi.geojson"))
    regions = report["cells_summary"]["roi"]
    assert [region["name"] for region in regions] == list(RINGS)
    _, whole = run(tmp_path / "whole")
    for region, ring in zip(regions, RINGS.values(), strict=True):
        inside = contains_xy(Polygon(ring), frame["x_px"], frame["y_px"]).sum()
        assert inside == contains_xy(Polygon(ring), whole["x_px"], whole["y_px"]).sum()
        area_mm2 = Polygon(ring).area * 0.25e-6
        assert 0 < inside < len(frame)
        assert region["counts"] == {"nucleus": inside}
        assert region["fractions"] == {"nucleus": 1}
        assert region["area_mm2"] == pytest.approx(area_mm2, rel=1e-5)
        assert region["density_per_mm2"] == pytest.approx(inside / area_mm2, rel=1e-5)
    areas = [facts["area_mm2"] for facts in report["classes"].values()]
    assert sum(areas) == pytest.approx(report["roi"]["area_mm2"], rel=0.01)  # background, too
    summary = report["cells_summary"]
    area_mm2 = unary_union([Polygon(ring) for ring in RINGS.values()]).area * 0.25e-6
    assert area_mm2 < 0.995 * sum(region["area_mm2"] for region in regions)
    assert summary["area_mm2"] == pytest.approx(area_mm2, rel=1e-3)


def test_regions_that_are_renamed_are_not_counted_anew_others_are(
    tmp_path: Path,
) -> None:
    path = geojson(tmp_path / "roi.geojson")
    before, _ = run(tmp_path, roi=path)
    path.write_text(path.read_text().replace("stroma", "necrosis"))
    after, _ = run(tmp_path, roi=path)
    names = [[each["name"] for each in r["cells_summary"]["roi"]] for r in (before, after)]
    assert names == [["tumour", "stroma"], ["tumour", "necrosis"]]
    assert after["cells_summary"]["total"] == before["cells_summary"]["total"]
    assert after["wall_s"] == before["wall_s"]  # nothing was run
    assert json.loads(next(tmp_path.glob("*/run.json")).read_text()) == after
    one = {"type": "MultiPolygon", "coordinates": [[[*r, r[0]]] for r in RINGS.values()]}
    path.write_text(json.dumps(one))
    together, _ = run(tmp_path, roi=path)
    assert len(together["cells_summary"]["roi"]) == 1  # the same outlines, counted as one region
    assert together["outputs"] == before["outputs"]


@pytest.mark.parametrize("tile_px", [64, 128])
def test_cells_on_the_edge_of_a_region_are_whole(tmp_path: Path, tile_px: int) -> None:
    wanted = {"roi": geojson(tmp_path / "roi.geojson"), "write": ("labels", "cells")}
    _, frame = run(tmp_path, tile_px=tile_px, **wanted)
    _, whole = run(tmp_path / "whole", tile_px=tile_px)
    regions = unary_union([Polygon(ring) for ring in RINGS.values()])
    expected = whole[contains_xy(regions, whole["x_px"], whole["y_px"])]
    outlines = from_wkb(expected["geometry"])
    assert not regions.covers(outlines).all()  # or the test would say nothing
    columns = frame.columns.drop("id")
    pd.testing.assert_frame_equal(
        frame[columns], expected[columns].reset_index(drop=True), check_exact=True
    )
    labels = tifffile.imread(next(tmp_path.glob("*/labels.ome.tif")))
    assert (np.bincount(labels.ravel())[1:] == frame["area_px"]).all()


@pytest.mark.parametrize("tile_px", [64, 128])
@pytest.mark.parametrize("with_roi", [False, True])
def test_cells_on_the_edge_of_a_mask_are_whole(
    tmp_path: Path, tile_px: int, with_roi: bool
) -> None:
    mask = np.zeros((HW[0] // 10, HW[1] // 10), np.uint8)
    mask[3:15, 4:21] = 255
    mask[8:10, 10:12] = 0
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    wanted = {"tissue_mask": tmp_path / "mask.tif", "write": ("classes", "labels", "cells")}
    if with_roi:
        wanted["roi"] = geojson(tmp_path / "roi.geojson")
    report, frame = run(tmp_path, tile_px=tile_px, **wanted)
    _, whole = run(tmp_path / "whole", tile_px=tile_px)
    rows, columns = (
        lambda at, axis=axis: (at * mask.shape[axis] / HW[axis]).astype(int) for axis in (0, 1)
    )
    kept = mask[rows(whole["y_px"].to_numpy()), columns(whole["x_px"].to_numpy())] > 0
    if with_roi:
        regions = unary_union([Polygon(ring) for ring in RINGS.values()])
        kept &= contains_xy(regions, whole["x_px"], whole["y_px"])
    names = frame.columns.drop("id")
    expected = whole[kept].reset_index(drop=True)
    pd.testing.assert_frame_equal(frame[names], expected[names], check_exact=True)
    assert 3 < len(frame) < len(whole)
    classes = tifffile.imread(next(tmp_path.glob("*/classes.ome.tif")))
    labels = tifffile.imread(next(tmp_path.glob("*/labels.ome.tif")))
    inside = mask[np.ix_(rows(np.arange(HW[0]) + 0.5), columns(np.arange(HW[1]) + 0.5))] > 0
    assert not classes[~inside].any()  # to the pixel
    assert (labels[classes == 0] > 0).any()  # or the test would say nothing
    assert (np.bincount(labels.ravel())[1:] == frame["area_px"]).all()
    assert report["plan"]["tissue_fraction"] == pytest.approx((mask > 0).mean(), rel=1e-5)


def test_a_pixel_size_given_in_nanometres_is_counted_all_the_same(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "m.cellseg", head=CELL_HEAD, mpp=None).path
    slide = ArraySlide(nuclei_picture(*HW), 5e5)
    options = {"kind": "IdentityEngine", "tile_px": 64, "write": ("cells",)}
    result, _ = run_fake(slide, tmp_path, bundle, **options)
    histogram = result.report["cells_summary"]["histograms"]["area_um2"]
    assert sum(histogram["counts"]) == result.report["cells_summary"]["total"] > 0


def test_no_cells_have_no_fractions() -> None:
    class Job:
        class_names = ("background", "a", "b")
        roi = None

        class slide:
            mpp = None
            levels = (Level(5, 7, 1.0),)

        class view:
            mpp, l0_per_wl = None, 1.0

    summary = summarize_cells(lambda: iter(()), Job)  # type: ignore[arg-type]
    assert summary["classes"]["b"] == {"count": 0, "fraction": None}
    assert summary["density_per_mm2"] is None
    assert summary["histograms"]["solidity"]["counts"] == [0] * 40


@pytest.mark.parametrize("mpp", [None, 0.5])
def test_cells_smaller_than_the_model_tells_apart_raise_a_doubt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mpp: float | None
) -> None:
    _, frame = run(tmp_path)
    median_px = float(np.median(np.sqrt(frame["area_px"] * 4 / np.pi)))
    for least_px, doubted in ((median_px * 1.05, True), (median_px * 0.95, False), (0, False)):
        head = {**CELL_HEAD, "instances": {**CELL_HEAD["instances"], "least_diameter_px": least_px}}
        bundle = fake_bundle(tmp_path / f"{least_px}.cellseg", head=head, mpp=0.5).path
        slide = ArraySlide(nuclei_picture(*HW), mpp)
        caplog.clear()
        found, _ = run_fake(
            slide,
            tmp_path / f"{least_px}",
            bundle,
            kind="IdentityEngine",
            tile_px=64,
            write=("cells",),
        )
        summary = found.report["cells_summary"]
        assert summary["median_diameter_px"] == pytest.approx(median_px, rel=0.03)
        assert len(summary["doubts"]) == doubted
        assert [text in caplog.text for text in summary["doubts"]] == [True] * doubted
        assert ("--mpp 1 " in "".join(summary["doubts"])) == (doubted and mpp is None)


@pytest.mark.parametrize(("fit_hw", "advised"), [(None, True), ((48, 64), False)])
def test_a_pixel_size_is_advised_where_it_would_enlarge_the_image(
    tmp_path: Path, fit_hw: tuple[int, int] | None, advised: bool
) -> None:
    head = {**CELL_HEAD, "instances": {**CELL_HEAD["instances"], "least_diameter_px": 12}}
    card = fake_bundle(tmp_path / "m.cellseg", head=head, mpp=0.5).manifest
    view = WorkingView(ArraySlide(np.zeros((30, 40), np.uint8)), 0.5, fit_hw=fit_hw)
    doubt = small_doubt(view, card, 99, 8.0)
    assert doubt is not None
    assert ("--mpp 1 " in doubt) == advised
    assert ("sizes in µm mean nothing" in doubt) == advised
