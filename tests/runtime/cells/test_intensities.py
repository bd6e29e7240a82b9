"""Intensities as they are stored, cell by cell, against sums over a label map that is enlarged."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellseg.errors import SlideError
from cellseg.runtime.cells.intensities import cell_intensities
from cellseg.runtime.kernels.sums import add_values
from cellseg.runtime.slides.channels import RGB_NAMES
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.labels import ArrayLabels
from cellseg.runtime.view.working import WorkingView
from tests.fakes import CELL_HEAD, fake_bundle, nuclei_picture, run_fake
from tests.slides import overwrite

STAINS = ["DAPI", None, "CD3", "CD3"]
COLUMNS = ["DAPI", "channel_2", "CD3_3", "CD3_4"]


def expected(
    labels: NDArray[Any], values: NDArray[Any], scale: float, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take each pixel's label at its centre, then NumPy's own mean and deviation."""
    places = [
        np.minimum(np.floor((np.arange(side) + 0.5) / scale).astype(int), extent - 1)
        for side, extent in zip(values.shape, labels.shape, strict=True)
    ]
    at = labels[np.ix_(*places)]
    cells = [values[at == number].astype(float) for number in range(1, count + 1)]
    mean = [cell.mean() if cell.size else np.nan for cell in cells]
    return np.array(mean), np.array([cell.std() if cell.size else np.nan for cell in cells])


@settings(deadline=None, max_examples=60)
@given(
    hw=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    mpp=st.sampled_from([0.5, 0.25, 0.31, 0.17, 0.04, 0.8, 1.9]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 99),
)
def test_each_stored_pixel_counts_for_the_cell_at_its_centre(
    hw: tuple[int, int], mpp: float, dtype: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, np.iinfo(dtype).max, (*hw, 3), dtype, endpoint=True)
    slide = ArraySlide(values, mpp)
    view = WorkingView(slide, 0.5)
    labels = rng.integers(0, 6, view.hw).astype(np.uint32)
    found = cell_intensities(ArrayLabels(labels), 5, slide, view, planes=3)
    for plane, measured in enumerate(found):
        mean, std = expected(labels, values[..., plane], view.scale, 5)
        np.testing.assert_allclose(measured.mean, mean, rtol=1e-6)
        np.testing.assert_allclose(measured.std, std, rtol=1e-5, atol=1e-2)


def test_windows_hold_each_pixel_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4096, (533, 471), np.uint16)
    slide = ArraySlide(values, 0.19)
    view = WorkingView(slide, 0.5)
    labels = np.arange(view.hw[0] * view.hw[1], dtype=np.uint32).reshape(view.hw) // 7 + 1
    monkeypatch.setattr("cellseg.runtime.cells.intensities._LEAST_PX", 13)
    monkeypatch.setattr("cellseg.runtime.cells.intensities._WINDOW_PX", 13)
    count = int(labels.max())
    (found,) = cell_intensities(ArrayLabels(labels), count, slide, view)
    mean, std = expected(labels, values, view.scale, count)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.std, std, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_sums_are_those_of_numpy(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 9, (40, 50), np.uint32)
    values = rng.integers(0, np.iinfo(dtype).max, labels.shape, dtype, endpoint=True)
    found = np.ones((3, 8), np.int64)
    add_values(labels, values, *found)
    for row, weights in zip(
        found, (values * 0 + 1, values, values.astype(np.int64) ** 2), strict=True
    ):
        sums = np.bincount(labels.ravel(), weights.ravel().astype(float), 9)[1:]
        assert np.array_equal(row, sums + 1)


def cell_bundle(folder: Path) -> Path:
    return fake_bundle(folder / "m.cellseg", head=CELL_HEAD, mpp=0.5).path


def stained(path: Path, planes: NDArray[Any], **more: Any) -> Path:
    about: Mapping[str, Any] = {"axes": "CYX", "Channel": {"Name": [name or "" for name in STAINS]}}
    options: dict[str, Any] = {"tile": (64, 64), "photometric": "minisblack", **more}
    tifffile.imwrite(path, planes, ome=True, metadata=about, **options)
    return path


@pytest.mark.parametrize("mpp", [0.5, 0.25])
def test_a_run_measures_every_channel_of_the_file(tmp_path: Path, mpp: float) -> None:
    nuclei = nuclei_picture(300, 400)[..., 0].astype(np.uint16) * 257
    planes = np.stack([nuclei, nuclei[::-1], nuclei[:, ::-1] // 3, nuclei[::-1, ::-1]])
    path, bundle = stained(tmp_path / "a.ome.tif", planes), cell_bundle(tmp_path)
    options = {"mpp": mpp, "tissue_mask": False, "kind": "IdentityEngine", "channel": "DAPI"}
    result, _ = run_fake(path, tmp_path / "out", bundle, write=("labels", "channels"), **options)
    table = pd.read_csv(result.folder / "channels.csv", index_col="id")
    labels = tifffile.imread(result.folder / "labels.ome.tif", key=0)
    assert list(table.columns) == [f"{kind}_{name}" for name in COLUMNS for kind in ("mean", "std")]
    assert len(table) == labels.max() > 5
    for name, plane in zip(COLUMNS, planes, strict=True):
        mean, std = expected(labels, plane, 0.5 / mpp, len(table))
        np.testing.assert_allclose(table[f"mean_{name}"], mean, atol=0.01)
        np.testing.assert_allclose(table[f"std_{name}"], std, atol=0.01)


def test_it_can_be_added_to_a_finished_run(tmp_path: Path) -> None:
    planes = np.stack([nuclei_picture(200, 200, seed)[..., 0] for seed in range(4)])
    path, bundle = stained(tmp_path / "a.ome.tif", planes), cell_bundle(tmp_path)
    options = {"mpp": 0.5, "tissue_mask": False, "kind": "IdentityEngine", "channel": 1}
    at_once = ("classes", "labels", "channels")
    first, _ = run_fake(path, tmp_path / "one", bundle, write=at_once, **options)
    run_fake(path, tmp_path / "two", bundle, write=("classes", "labels"), **options)
    later, engine = run_fake(path, tmp_path / "two", bundle, write=("channels",), **options)
    assert engine is None
    texts = [(each.folder / "channels.csv").read_bytes() for each in (first, later)]
    assert texts[0] == texts[1]
    assert texts[0].count(b"\n") > 5


def test_of_a_slide_that_was_read_whole_colours_are_measured(tmp_path: Path) -> None:
    picture = nuclei_picture(200, 200)
    tifffile.imwrite(path := tmp_path / "a.tif", picture, photometric="rgb")
    bundle = cell_bundle(tmp_path)
    write = ("labels", "channels")
    options = {"mpp": 0.5, "kind": "IdentityEngine"}
    result, _ = run_fake(path, tmp_path / "out", bundle, write=write, **options)
    table = pd.read_csv(result.folder / "channels.csv", index_col="id")
    labels = tifffile.imread(result.folder / "labels.ome.tif", key=0)
    assert len(table) > 5
    for plane, name in enumerate(RGB_NAMES):
        mean, _ = expected(labels, picture[..., plane], 1.0, len(table))
        np.testing.assert_allclose(table[f"mean_{name}"], mean, atol=0.01)


def test_without_a_cell_the_table_has_its_head_alone(tmp_path: Path) -> None:
    path = stained(tmp_path / "a.ome.tif", np.zeros((4, 90, 90), np.uint16))
    bundle = cell_bundle(tmp_path)
    result, _ = run_fake(
        path, tmp_path / "out", bundle, write=("labels", "channels"), mpp=0.5, channel="dapi"
    )
    text = (result.folder / "channels.csv").read_text(encoding="utf-8")
    assert text.startswith("id,mean_DAPI,std_DAPI,mean_channel_2")
    assert text.count("\n") == 1


@pytest.mark.parametrize("on_error", ["skip", "stop"])
def test_a_damaged_tile_of_another_channel_is_treated_as_the_run_treats_them(
    tmp_path: Path, on_error: str, caplog: pytest.LogCaptureFixture
) -> None:
    planes = np.stack([nuclei_picture(200, 200)[..., 0]] * 4)
    path = stained(tmp_path / "a.ome.tif", planes, compression="deflate")
    with tifffile.TiffFile(path) as tif:
        overwrite(path, tif.pages[2].dataoffsets[0], bytes(40))
    options = {"mpp": 0.5, "kind": "IdentityEngine", "channel": 1, "on_error": on_error}
    run = partial(run_fake, path, tmp_path / "out", cell_bundle(tmp_path), **options)
    if on_error == "stop":
        with pytest.raises(SlideError, match="the tile at row 0, column 0"):
            run(write=("classes", "labels", "channels"))
        return
    result, _ = run(write=("classes", "labels", "channels"))
    assert "channel 3: taken for background: level 0: the tile at row 0" in caplog.text
    table = pd.read_csv(result.folder / "channels.csv")
    assert table["mean_CD3_4"].equals(table["mean_DAPI"])
    assert not table["mean_CD3_3"].equals(table["mean_DAPI"])
