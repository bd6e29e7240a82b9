"""Files of cells: what QuPath, shapely, pandas, DuckDB and a spreadsheet read in them."""

from __future__ import annotations

import csv
import gzip
import json
import uuid
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
import tifffile
from shapely.geometry import shape
from skimage.measure import regionprops_table

from cellseg.runtime.cells.files import CellFile
from cellseg.runtime.cells.table import COLUMNS
from cellseg.runtime.jobs import wanted
from cellseg.runtime.slides.slide import ArraySlide
from tests.fakes import CELL_HEAD, fake_bundle, nuclei_picture, run_fake

CLASSES = [
    {"name": "background", "color": [0, 0, 0]},
    {"name": 'nucleus, "living"', "color": [255, 200, 0]},
]
WRITTEN = ("classes", "labels", "geojson", "cells", "csv")
HW = (211, 305)


def run(folder: Path, picture: np.ndarray, mpp: float | None = 0.5, **changes: Any) -> Any:
    head = CELL_HEAD
    folder.mkdir(exist_ok=True)
    path = folder / "m.cellseg"
    bundle = path if path.exists() else fake_bundle(path, head=head, classes=CLASSES).path
    options = {"kind": "IdentityEngine", "tile_px": 64, "write": WRITTEN} | changes
    return run_fake(ArraySlide(picture, mpp), folder / "out", bundle, **options)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("cells"), nuclei_picture(*HW))[0]


def features(result: Any) -> list[dict[str, Any]]:
    with gzip.open(result.folder / "cells.geojson.gz") as file:
        content = json.load(file)
    assert list(content) == ["type", "features"]
    assert content["type"] == "FeatureCollection"
    return list(content["features"])


def labels_of(result: Any) -> np.ndarray:
    return np.asarray(tifffile.imread(result.folder / "labels.ome.tif"))


def test_a_feature_is_what_qupath_documents(found: Any) -> None:
    seen = features(found)
    assert len(seen) == labels_of(found).max() == found.report["cells_summary"]["total"]
    for feature in seen:
        assert feature["type"] == "Feature"
        assert uuid.UUID(feature["id"]).version == 5
        assert feature["geometry"]["type"] == "Polygon"
        assert all(ring[0] == ring[-1] for ring in feature["geometry"]["coordinates"])
        assert shape(feature["geometry"]).is_valid
        assert shapely.is_ccw(shape(feature["geometry"]).exterior)
        properties = feature["properties"]
        assert list(properties) == ["objectType", "classification", "measurements"]
        assert properties["objectType"] == "detection"
        assert properties["classification"] == {"name": CLASSES[1]["name"], "color": [255, 200, 0]}
        assert all(isinstance(value, (int, float)) for value in properties["measurements"].values())
    assert len({feature["id"] for feature in seen}) == len(seen)


def test_outlines_cover_the_pixels_of_the_label_map(found: Any) -> None:
    labels = labels_of(found)
    y, x = np.mgrid[: HW[0], : HW[1]] + 0.5
    again = np.zeros(HW, np.uint32)
    for feature in features(found):
        inside = shapely.contains_xy(shape(feature["geometry"]), x.ravel(), y.ravel())
        again.ravel()[inside] = feature["properties"]["measurements"]["id"]
    np.testing.assert_array_equal(again, labels)


def test_parquet_is_read_by_pandas_and_duckdb_and_holds_the_polygons(found: Any) -> None:
    path = found.folder / "cells.parquet"
    frame = pd.read_parquet(path)
    assert list(frame) == [*(column.name for column in COLUMNS), "geometry"]
    labels = labels_of(found)
    props = regionprops_table(labels, properties=("label", "area", "centroid", "bbox"))
    np.testing.assert_array_equal(frame["id"], props["label"])
    np.testing.assert_array_equal(frame["area_px"], props["area"])
    np.testing.assert_allclose(frame["area_um2"], props["area"] * 0.25)
    np.testing.assert_allclose(frame["x_px"], props["centroid-1"] + 0.5)
    np.testing.assert_array_equal(frame["y1_px"], props["bbox-2"])
    assert frame["class_probability"].isna().all()
    polygons = shapely.from_wkb(frame["geometry"].to_list())
    outlines = [shape(feature["geometry"]) for feature in features(found)]
    assert all(a.equals(b) for a, b in zip(polygons, outlines, strict=True))
    rows = duckdb.sql(f"SELECT class, count(*), sum(area_px) FROM '{path}' GROUP BY class")
    assert rows.fetchall() == [(CLASSES[1]["name"], len(frame), (labels > 0).sum())]
    about = json.loads(pq.read_schema(path).metadata[b"geo"])
    assert about["columns"][about["primary_column"]]["encoding"] == "WKB"
    assert about["columns"]["geometry"]["crs"] is None


def test_text_says_what_parquet_says(found: Any) -> None:
    frame = pd.read_parquet(found.folder / "cells.parquet")
    with (found.folder / "cells.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(frame)
    for column in COLUMNS:
        texts = [row[column.name] for row in rows]
        if column.dtype == "U":
            assert texts == frame[column.name].to_list()
        elif column.name == "class_probability":
            assert set(texts) == {""}
        elif column.dtype != "?":
            step = 10.0**-column.decimals
            np.testing.assert_allclose(
                np.array(texts, float), frame[column.name], rtol=1e-6, atol=step
            )
    measured = features(found)[3]["properties"]["measurements"]
    assert measured["area_um2"] == pytest.approx(frame["area_um2"][3], abs=1e-3)
    assert measured["x_px"] == pytest.approx(frame["x_px"][3], abs=0.005)
    assert "class_probability" not in measured


@pytest.mark.parametrize("name", ["cells.parquet", "cells.csv"])
def test_a_table_is_read_column_by_column(found: Any, name: str) -> None:
    table = CellFile(found.folder / name)
    assert table.cell_count == labels_of(found).max()
    assert table["class"][0] == CLASSES[1]["name"]
    assert (table["area_px"].sum(), table["area_um2"].dtype) == ((labels_of(found) > 0).sum(), "f4")
    assert table["touches_border"].dtype == bool
    assert ("geometry" in table) == (name == "cells.parquet")
    with pytest.raises(KeyError):
        table["colour"]


def test_a_picture_without_cells_makes_valid_empty_files(tmp_path: Path) -> None:
    result, _ = run(tmp_path, np.zeros((40, 50, 3), np.uint8))
    assert features(result) == []
    assert len(pd.read_parquet(result.folder / "cells.parquet")) == 0
    assert (result.folder / "cells.csv").read_text(encoding="utf-8").count("\n") == 1
    for name in ("cells.parquet", "cells.csv"):
        assert CellFile(result.folder / name)["area_um2"].shape == (0,)
    summary = result.report["cells_summary"]
    assert (summary["total"], summary["density_per_mm2"]) == (0, 0)
    assert summary["histograms"]["area_um2"] is None


def test_without_a_pixel_size_microns_are_null(tmp_path: Path) -> None:
    result, _ = run(tmp_path, nuclei_picture(60, 80), mpp=None)
    frame = pd.read_parquet(result.folder / "cells.parquet")
    microns = [name for name in frame if name.endswith(("_um", "_um2"))]
    assert frame[microns].isna().all(axis=None)
    assert frame["eccentricity"].notna().all()
    assert not any(name in features(result)[0]["properties"]["measurements"] for name in microns)
    assert result.report["cells_summary"]["density_per_mm2"] is None


def test_files_added_to_a_finished_run_have_the_bytes_they_would_have_had(tmp_path: Path) -> None:
    picture = nuclei_picture(*HW)
    at_once, _ = run(tmp_path / "a", picture, write=(*WRITTEN, "probability"))
    run(tmp_path / "b", picture, write=("classes", "labels", "probability"))
    later, engine = run(tmp_path / "b", picture)
    assert engine is None
    assert later.report["outputs"] == at_once.report["outputs"]
    assert (
        pd.read_parquet(later.folder / "cells.parquet")["class_probability"].between(0.5, 1).all()
    )


def test_a_table_added_later_says_what_the_first_one_says(tmp_path: Path) -> None:
    """The run kept probability for its blurred mask alone, and told the cells' from it."""
    run(tmp_path, nuclei_picture(*HW), write=("classes", "labels", "cells", "blurred-mask"))
    later, _ = run(tmp_path, nuclei_picture(*HW), write=("csv",))
    table, text = later.files["cells.parquet"], later.files["cells.csv"]
    probability = pd.read_parquet(table)["class_probability"]
    assert probability.notna().all()
    np.testing.assert_allclose(pd.read_csv(text)["class_probability"], probability, atol=1e-3)


def test_outlines_are_made_anew_for_another_tolerance(tmp_path: Path) -> None:
    picture = nuclei_picture(*HW)
    first, _ = run(tmp_path, picture)
    sizes = [len(shape(feature["geometry"]).exterior.coords) for feature in features(first)]
    exact, engine = run(tmp_path, picture, simplify_px=0.0)
    assert engine is None
    assert exact.report["outputs"]["cells.geojson.gz"]["simplify_px"] == 0
    again = [len(shape(feature["geometry"]).exterior.coords) for feature in features(exact)]
    assert sum(again) > 1.2 * sum(sizes)
    areas = [shape(feature["geometry"]).area for feature in features(exact)]
    np.testing.assert_array_equal(areas, np.bincount(labels_of(exact).ravel())[1:])


def test_without_pyarrow_the_table_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = wanted.version

    def version(name: str) -> str:
        if name == "pyarrow":
            raise wanted.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(wanted, "version", version)
    result, _ = run(tmp_path, nuclei_picture(60, 80), write=("cells",))
    assert list(result.files) == ["cells.csv"]
    again, _ = run(tmp_path, nuclei_picture(60, 80), write=("cells",))
    assert again.was_done
