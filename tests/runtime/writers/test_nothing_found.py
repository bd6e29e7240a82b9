"""A slide without cells, or without any tissue: every output is made, and is valid and empty."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from cellseg.runtime.jobs import wanted
from cellseg.runtime.jobs.outputs import OUTPUTS, Output
from cellseg.runtime.slides.slide import ArraySlide
from tests.fakes import fake_bundle, run_fake
from tests.qupath import read_objects

INSTANCES = {"kind": "interior-border", "interior_channel": 1, "seed_threshold": 0.5}
HEAD = {"kind": "softmax", "instances": INSTANCES | {"min_area_px": 4}}
HW = (130, 170)
WHITE, BLACK = 255, 0
PICTURES = ("overlay.jpg", "overlay.tif", "density.png", "gallery.jpg", "merged.png")


class BlankSlide(ArraySlide):
    """A slide, of which tissue is looked for."""

    kind: Any = "slide"


@pytest.fixture(scope="module", params=["a slide of glass", "a field of nothing"])
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run with every output whose package is here."""
    folder = tmp_path_factory.mktemp("nothing")
    made, level = (BlankSlide, WHITE) if "glass" in request.param else (ArraySlide, BLACK)
    slide = made(np.full((*HW, 3), level, np.uint8), mpp=0.5)
    names = [name for name, entry in OUTPUTS.items() if is_here(entry)]
    bundle = fake_bundle(folder / "m.cellseg", head=HEAD).path
    return run_fake(slide, folder, bundle, kind="IdentityEngine", write=tuple(names))[0]


def is_here(entry: Output) -> bool:
    try:
        wanted._check_package("", entry)
    except wanted.StoreError:
        return False
    return True


def test_nothing_is_counted(result: Any) -> None:
    assert result.report["status"] == "done"
    assert result.report["classes"]["nucleus"]["pixels"] == 0
    assert result.report["cells_summary"]["total"] == 0


def test_every_output_is_there(result: Any) -> None:
    wanted = {entry.file for entry in OUTPUTS.values() if is_here(entry)}
    assert set(result.report["outputs"]) == wanted
    assert {path.name for path in result.folder.iterdir()} >= wanted


@pytest.mark.parametrize(
    "name", ["classes.ome.tif", "labels.ome.tif", "density.ome.tif", "probability.ome.tif"]
)
def test_maps_are_of_full_size_and_zero(result: Any, name: str) -> None:
    found = tifffile.imread(result.folder / name)
    assert not found.any()
    if name != "density.ome.tif":  # coarser
        assert found.shape == HW


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_open(result: Any, name: str) -> None:
    assert cv2.imread(str(result.folder / name)) is not None


@pytest.mark.parametrize("name", ["mask.png", "blurred-mask.png", "colour-mask.png"])
def test_masks_are_black(result: Any, name: str) -> None:
    found = cv2.imread(str(result.folder / name), cv2.IMREAD_UNCHANGED)
    assert found is not None
    assert found.shape[:2] == HW
    assert not found.any()


def test_tables_have_their_columns_and_no_rows(result: Any) -> None:
    assert read_objects(result.folder / "cells.geojson.gz", HW[1], HW[0]) == []
    header, *rows = (result.folder / "cells.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("id,class,")
    assert rows == []
    pd = pytest.importorskip("pandas")
    frame = pd.read_parquet(result.folder / "cells.parquet")
    assert (len(frame), "geometry" in frame) == (0, True)


@pytest.mark.parametrize("name", ["classes.ome.zarr", "labels.ome.zarr"])
def test_zarr_arrays_are_of_full_size_and_zero(result: Any, name: str) -> None:
    zarr = pytest.importorskip("zarr", minversion="3")
    found = zarr.open_group(str(result.folder / name), mode="r")["0"]
    assert (found.shape, found[:].any()) == (HW, False)


def test_a_dicom_segmentation_has_its_segment_and_no_pixel(result: Any) -> None:
    highdicom = pytest.importorskip("highdicom", reason="pip install 'cellseg[dicom]'")
    found = highdicom.seg.segread(result.folder / "classes.dcm")
    assert found.number_of_segments == 1
    assert found.get_total_pixel_matrix(combine_segments=True).shape == HW
    assert not found.get_total_pixel_matrix(combine_segments=True).any()
