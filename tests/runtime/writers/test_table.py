"""The table of outputs: every entry can be loaded, and a wrong wish is refused beforehand."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cellseg.errors import CellsegError, StoreError
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.jobs import wanted
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.jobs.outputs import DEFAULT_OUTPUTS, OUTPUTS, outputs_of
from cellseg.runtime.jobs.wanted import outputs_for
from tests.bundles import make_bundle


@dataclass
class FakeView:
    hw: tuple[int, int]
    mpp: tuple[float, float] | None = None


@dataclass
class FakeJob:
    view: FakeView
    tells_cells: bool = False
    bundle: Bundle | None = None


def job(height: int, width: int, tells_cells: bool = False) -> Any:
    return FakeJob(FakeView((height, width)), tells_cells)


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_has_a_writer_and_words(name: str) -> None:
    output = OUTPUTS[name]
    assert callable(output.load())
    assert output.summary
    assert set(output.settings_of(InferOptions())) == set(output.settings)
    assert output.instead is None or OUTPUTS[output.instead].limit_px is None


def test_no_two_outputs_share_a_file() -> None:
    assert len({output.file for output in OUTPUTS.values()}) == len(OUTPUTS)


def test_what_is_wanted_comes_in_the_tables_order() -> None:
    assert list(outputs_for(["overlay", "classes"], job(9, 9))) == ["classes", "overlay"]


def test_labels_are_left_out_where_cells_are_not_told_apart() -> None:
    assert list(outputs_for(DEFAULT_OUTPUTS, job(9, 9))) == ["classes", "overlay"]
    assert list(outputs_for(DEFAULT_OUTPUTS, job(9, 9, True))) == list(DEFAULT_OUTPUTS)


def test_a_file_of_cells_that_the_model_cannot_make_is_refused(tmp_path: Path) -> None:
    semantic = FakeJob(FakeView((9, 9)), bundle=make_bundle(tmp_path / "m.cellseg"))
    asked = ("classes", "labels", "geojson", "cells", "overlay", "csv")
    for names, refused in (("classes", "heatmap", "cells"), "cells, heatmap"), (asked, "csv"):
        with pytest.raises(CellsegError, match=r"made of cells.*Received: model=") as caught:
            outputs_for(names, semantic)  # type: ignore[arg-type]
        assert str(caught.value.hint).startswith(f"Leave {refused} out of --write")


def test_outputs_are_known_by_their_files() -> None:
    assert outputs_of(["overlay.tif", "mask.png", "note.txt"]) == ("overlay-pyramid", "mask")


def test_an_unknown_output_is_refused_with_the_nearest() -> None:
    with pytest.raises(CellsegError, match="Received: write=overlay-piramid") as caught:
        InferOptions(write=("classes", "overlay-piramid"))
    assert caught.value.hint == "Did you mean 'overlay-pyramid'?"


def test_a_flat_picture_of_a_large_slide_is_refused_with_another_way() -> None:
    with pytest.raises(CellsegError, match="at most 268 megapixels. Received: 40000 x 30000") as e:
        outputs_for(["merged"], job(30_000, 40_000))
    assert e.value.hint == "Use --write overlay-pyramid, which has no such limit."


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    needy = replace(OUTPUTS["classes"], package="no_such_package", extra="some")
    monkeypatch.setitem(OUTPUTS, "classes", needy)
    with pytest.raises(StoreError, match=r"needs no_such_package. Received: not inst") as caught:
        outputs_for(["classes"], job(9, 9))
    assert caught.value.hint == "pip install 'cellseg[some]'"


@pytest.mark.parametrize("blur_px", [0, 4, -1])
def test_a_blur_is_odd(blur_px: int) -> None:
    with pytest.raises(CellsegError, match=f"Received: blur_px={blur_px}"):
        InferOptions(blur_px=blur_px)


@pytest.mark.parametrize(
    ("name", "old", "needed"),
    [("ome-zarr", "2.18.7", "zarr 3 or newer"), ("dicom-seg", "0.27.9", "highdicom 0.28 or newer")],
)
def test_a_package_that_is_too_old_is_refused(
    name: str, old: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wanted, "version", lambda _: old)
    with_mpp = FakeJob(FakeView((9, 9), mpp=(0.5, 0.5)))
    with pytest.raises(StoreError, match=f"needs {needed}. Received: {re.escape(old)}") as caught:
        outputs_for([name], with_mpp)  # type: ignore[arg-type]
    assert caught.value.hint == f"pip install 'cellseg[{OUTPUTS[name].extra}]'"
