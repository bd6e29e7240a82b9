"""The class map as OME-Zarr: what zarr and NGFF see in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from cellseg.errors import StoreError
from cellseg.runtime.run.result_folder import result_folder
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.writers import ome_zarr
from cellseg.runtime.writers.facts import output_facts
from cellseg.runtime.writers.ome_zarr import label_metadata
from tests.fakes import CELL_HEAD, fake_bundle, nuclei_picture, run_fake

if TYPE_CHECKING:
    from pathlib import Path

PALETTE = np.array([[0, 0, 0], [255, 200, 0]], np.uint8)


def made(tmp_path: Path, out: str, height: int = 1100, width: int = 700, **options: Any) -> Any:
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    slide = ArraySlide(nuclei_picture(height, width), mpp=0.5)
    options = {"kind": "IdentityEngine", "write": ("ome-zarr", "classes")} | options
    return run_fake(slide, tmp_path / out, bundle, **options)[0]


@pytest.mark.parametrize("hw", [(1, 1), (1, 513), (1100, 700)])
def test_every_level_is_that_of_the_class_map(
    tmp_path: Path, hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    zarr = pytest.importorskip("zarr", minversion="3")
    monkeypatch.setattr(ome_zarr, "_SHARD_PX", 512)  # so that several are put together
    result = made(tmp_path, "out", *hw)
    root = zarr.open_group(str(result.files["classes.ome.zarr"]), mode="r")
    with tifffile.TiffFile(result.files["classes.ome.tif"]) as tif:
        levels = tif.series[0].levels
        assert len(levels) == len(list(root.array_keys()))
        for index, level in enumerate(levels):
            array = root[str(index)]
            assert (array.dtype, array.chunks) == (np.uint8, (512, 512))
            np.testing.assert_array_equal(array[:], level.asarray().reshape(array.shape))


def test_cells_are_written_with_their_numbers(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", minversion="3")
    head = CELL_HEAD
    bundle = fake_bundle(tmp_path / "cells.cellseg", head=head).path
    names = {"write": ("labels", "ome-zarr-labels"), "kind": "IdentityEngine"}
    result, _ = run_fake(ArraySlide(nuclei_picture(600, 700)), tmp_path / "out", bundle, **names)
    root = zarr.open_group(str(result.files["labels.ome.zarr"]), mode="r")
    with tifffile.TiffFile(result.files["labels.ome.tif"]) as tif:
        for index, level in enumerate(tif.series[0].levels):
            assert root[str(index)].dtype == np.uint32
            np.testing.assert_array_equal(root[str(index)][:], level.asarray())
    about = root.attrs["ome"]
    assert about["multiscales"][0]["name"] == "labels"
    assert about["image-label"] == {"colors": [{"label-value": 0, "rgba": [0, 0, 0, 0]}]}


def test_the_group_says_what_ngff_asks_for(tmp_path: Path) -> None:
    pytest.importorskip("zarr", minversion="3")
    result = made(tmp_path, "out")
    path = result.files["classes.ome.zarr"] / "zarr.json"
    group = json.loads(path.read_text(encoding="utf-8"))
    about = group["attributes"]["ome"]
    assert (group["zarr_format"], group["node_type"], about["version"]) == (3, "group", "0.5")
    assert about["multiscales"][0]["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1.0, 1.0]},
        {"type": "translation", "translation": [0.25, 0.25]},
    ]
    assert about["image-label"]["colors"][1] == {"label-value": 1, "rgba": [255, 200, 0, 255]}
    assert about["image-label"]["properties"][1] == {"label-value": 1, "class": "nucleus"}


def test_the_report_has_size_and_hash_of_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("zarr", minversion="3")
    one, two = made(tmp_path, "one"), made(tmp_path, "two", workers=4)
    facts = one.report["outputs"]["classes.ome.zarr"]
    assert facts == two.report["outputs"]["classes.ome.zarr"]
    assert facts == output_facts(one.files["classes.ome.zarr"])
    files = [path for path in one.files["classes.ome.zarr"].rglob("*") if path.is_file()]
    assert facts["bytes"] == sum(path.stat().st_size for path in files)


def test_a_folder_that_lost_a_file_is_made_again(tmp_path: Path) -> None:
    pytest.importorskip("zarr", minversion="3")
    first = made(tmp_path, "out")
    assert made(tmp_path, "out").was_done
    (first.files["classes.ome.zarr"] / "0" / "c" / "0" / "0").unlink()
    second = made(tmp_path, "out")
    assert not second.was_done
    assert second.report["outputs"] == first.report["outputs"]


def test_a_folder_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zarr", minversion="3")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ome_zarr, "_half_of", full)
    with pytest.raises(StoreError, match="disk is full"):
        made(tmp_path, "out")
    folder = result_folder("<array>", tmp_path / "out")
    assert not list(folder.glob("*.zarr"))
    monkeypatch.undo()
    assert made(tmp_path, "out").report["plan"]["tiles_resumed"] > 0


def test_without_a_pixel_size_there_is_no_unit() -> None:
    about = label_metadata(2, None, ["background", "nucleus"], PALETTE)["multiscales"][0]
    assert about["axes"] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    scales = [each["coordinateTransformations"][0]["scale"] for each in about["datasets"]]
    assert scales == [[1.0, 1.0], [2.0, 2.0]]
