"""``cells.geojson.gz`` by the rules of QuPath, and a checker of those rules that can fail."""

from __future__ import annotations

import gzip
import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import shape

from cellseg.runtime.jobs.job import prepare
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.labels import ArrayLabels
from cellseg.runtime.writers.cells_geojson import write_cells_geojson
from cellseg.runtime.writers.finished import FinishedRun
from tests.cell_pictures import blobs, measured
from tests.fakes import fake_bundle, nuclei_picture, run_fake
from tests.qupath import read_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cellseg.runtime.cells.measured import MeasuredCells

INSTANCES = {"kind": "interior-border", "interior_channel": 1, "seed_threshold": 0.5}
HEAD = {"kind": "softmax", "instances": INSTANCES | {"min_area_px": 4}}
CLASSES = [
    {"name": "background", "color": [0, 0, 0]},
    {"name": 'Größe "µ"\\', "color": [255, 200, 0]},
]


class Cells:
    """All cells in one batch."""

    def __init__(self, cells: MeasuredCells) -> None:
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    def batches(self) -> Iterator[MeasuredCells]:
        yield self._cells


def objects_of(
    folder: Path, labels: np.ndarray, model_mpp: float | None = None, tolerance_px: float = 0.5
) -> list[dict[str, Any]]:
    """Write the cells of a label map of the working level as a run would, and read them back."""
    bundle = fake_bundle(folder / "m.cellseg", head=HEAD, classes=CLASSES, mpp=model_mpp)
    step = 1 if model_mpp is None else model_mpp / 0.25
    height, width = (round(side * step) for side in labels.shape)
    slide = ArraySlide(np.zeros((height, width, 3), np.uint8), mpp=0.25)
    job = prepare(slide, bundle, InferOptions())
    assert job.view.hw == labels.shape
    cells = Cells(measured(labels, tolerance_px=tolerance_px))
    run = FinishedRun(job, InferOptions(), ArrayLabels(labels), measured=cells)
    write_cells_geojson(folder / "cells.geojson.gz", run)
    return read_objects(folder / "cells.geojson.gz", width, height)


def test_a_run_writes_objects_that_qupath_reads_without_loss(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "m.cellseg", head=HEAD, classes=CLASSES).path
    slide = ArraySlide(nuclei_picture(211, 305), mpp=0.5)
    result, _ = run_fake(slide, tmp_path, bundle, kind="IdentityEngine", write=("geojson",))
    found = read_objects(result.folder / "cells.geojson.gz", 305, 211)
    assert len(found) == result.report["cells_summary"]["total"] > 9
    assert found[0]["properties"]["classification"]["name"] == CLASSES[1]["name"]


def test_a_slide_without_cells_is_a_collection_of_no_objects(tmp_path: Path) -> None:
    assert objects_of(tmp_path, np.zeros((30, 40), np.uint32)) == []


@pytest.mark.parametrize("model_mpp", [None, 0.5, 0.375])
def test_holes_and_pieces_keep_their_direction_at_any_resolution(
    tmp_path: Path, model_mpp: float | None
) -> None:
    labels = np.zeros((40, 64), np.uint32)
    labels[4:20, 4:20], labels[8:14, 8:14] = 2, 0  # a ring
    labels[24:36, 30:40] = labels[2:8, 50:60] = 1  # a cell in two pieces, at the border below
    labels[28:30, 33:35] = 0  # with a hole
    pieces, ring = objects_of(tmp_path, labels, model_mpp)
    assert ring["geometry"]["type"] == "Polygon"
    assert len(ring["geometry"]["coordinates"]) == 2
    assert pieces["geometry"]["type"] == "MultiPolygon"
    assert [len(polygon) for polygon in pieces["geometry"]["coordinates"]] == [1, 2]
    step = 1 if model_mpp is None else model_mpp / 0.25
    drawn = shape(pieces["geometry"])
    assert drawn.is_valid
    np.testing.assert_allclose(drawn.bounds, np.array([30, 2, 60, 36]) * step, atol=0.71 * step)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), tolerance_px=st.sampled_from([0.0, 0.5, 2.0]))
def test_cells_of_any_shape_become_valid_objects(
    tmp_path_factory: pytest.TempPathFactory, seed: int, tolerance_px: float
) -> None:
    labels = blobs(seed, (50, 60))
    found = objects_of(tmp_path_factory.mktemp("q"), labels, tolerance_px=tolerance_px)
    assert len(found) == labels.max()
    assert all(shape(feature["geometry"]).is_valid for feature in found)


def changed(path: tuple[Any, ...], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        *parents, last = path
        for step in parents:
            content = content[step]
        content[last] = value

    return change


OBJECT = ("features", 0)
RING = (*OBJECT, "geometry", "coordinates", 0)
BROKEN = {
    "open ring": changed((*RING, 0), [1.5, 2]),
    "ring the wrong way round": lambda content: content["features"][0]["geometry"]["coordinates"][
        0
    ].reverse(),
    "outside the slide": changed((*RING, 1), [999, 1]),
    "three positions": changed(RING, [[0, 0], [5, 0], [0, 0]]),
    "no UUID": changed((*OBJECT, "id"), "PathDetectionObject"),
    "same id twice": lambda content: content["features"].append(deepcopy(content["features"][0])),
    "annotation": changed((*OBJECT, "properties", "objectType"), "annotation"),
    "misspelled": changed((*OBJECT, "properties", "object_type"), "detection"),
    "not a number": changed((*OBJECT, "properties", "measurements", "area_um2"), float("nan")),
    "text": changed((*OBJECT, "properties", "measurements", "area_um2"), "7"),
    "null": changed((*OBJECT, "properties", "measurements", "area_um2"), None),
    "dark": changed((*OBJECT, "properties", "classification", "color"), [0, 0, 256]),
    "packed colour": changed((*OBJECT, "properties", "classification", "color"), -3670016),
    "nameless": changed((*OBJECT, "properties", "classification", "name"), ""),
    "one of several": changed((*OBJECT, "geometry", "type"), "MultiPolygon"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_checker_sees_what_qupath_would_take_for_something_else(
    tmp_path: Path, name: str
) -> None:
    labels = np.zeros((30, 40), np.uint32)
    labels[5:15, 5:15] = 1
    content = {"type": "FeatureCollection", "features": objects_of(tmp_path, labels)}
    BROKEN[name](content)
    path = tmp_path / "broken.geojson.gz"
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises((AssertionError, ValueError, TypeError)):
        read_objects(path, 40, 30)
