"""Measurements of cells are scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2hed
from skimage.measure import regionprops

from cellseg.runtime.cells.measure import CellMeasurer, intensity_range
from cellseg.runtime.cells.measured import MeasuredCells, even_lots, merged
from cellseg.runtime.cells.runs import CellRuns
from cellseg.runtime.cells.table import COLUMNS, CellFrame, CellTable
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.labels import ArrayLabels
from cellseg.runtime.view.working import WorkingView
from tests.cell_pictures import blobs, first_pixels, measured

OD_OF_SKIMAGE = 6  # it divides by -log10(1e-6)


def picture(hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (*hw, 3)).astype(np.uint8)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_centroids_of_runs_are_those_of_the_records_to_the_last_bit(seed: int) -> None:
    """Regions of interest keep a cell by the one and count it by the other."""
    labels = blobs(seed)
    found = CellRuns.of_labels(labels.astype(np.uint32)).centroid_yx
    np.testing.assert_array_equal(found, measured(labels).records["centroid_yx"])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_shapes_are_those_of_regionprops(seed: int) -> None:
    labels = blobs(seed)
    for found, expected in zip(measured(labels).records, regionprops(labels), strict=True):
        assert found["area_px"] == expected.area
        np.testing.assert_array_equal(found["box"], expected.bbox)
        np.testing.assert_allclose(found["centroid_yx"] - 0.5, expected.centroid, atol=1e-9)
        assert found["perimeter_px"] == pytest.approx(expected.perimeter, rel=1e-6)
        assert found["solidity"] == pytest.approx(expected.solidity, rel=1e-6)
        axes = expected.axis_major_length, expected.axis_minor_length
        np.testing.assert_allclose(found["axes"], axes, rtol=1e-5, atol=2e-3)
        # Of a line, the smaller axis is 0 but for the last digits of scikit-image's.
        assert found["eccentricity"] == pytest.approx(expected.eccentricity, abs=1e-5)


def test_intensities_and_stains_are_those_of_regionprops_and_rgb2hed() -> None:
    labels = blobs(1)
    rgb = picture(labels.shape)
    rgb[:20, :20] = 0  # no light at all
    density = np.maximum(rgb2hed(rgb), 0) * OD_OF_SKIMAGE
    whole = regionprops(labels, np.dstack([rgb, density]))
    for found, expected in zip(measured(labels, rgb).records, whole, strict=True):
        mean, spread = expected.intensity_mean, expected.intensity_std
        np.testing.assert_allclose(found["mean_rgb"], mean[:3], rtol=1e-5)
        np.testing.assert_allclose(found["std_rgb"], spread[:3], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(found["stain_od"], mean[[3, 5]], rtol=1e-4, atol=1e-6)


def test_axes_take_pixels_that_are_not_square_as_they_are() -> None:
    labels = blobs(2)
    mpp = (0.5, 0.8)
    records = measured(labels, mpp=mpp).records
    for found, expected in zip(records, regionprops(labels, spacing=mpp[::-1]), strict=True):
        axes = expected.axis_major_length, expected.axis_minor_length
        np.testing.assert_allclose(found["axes"], axes, rtol=1e-5, atol=2e-3)
        assert found["eccentricity"] == pytest.approx(expected.eccentricity, abs=1e-5)


@pytest.mark.parametrize("hw", [(2800, 2800), (240, 8800)])
def test_a_fold_as_large_as_a_tissue_has_its_axes(hw: tuple[int, int]) -> None:
    labels = np.ones(hw, np.uint32)
    labels[:, 3 * hw[1] // 4 :] = 0
    image = np.zeros((*hw, 3), np.uint8)
    image[::2] = 255
    record = measured(labels, image).records[0]
    sides = np.array([hw[0], 3 * hw[1] // 4])
    expected = 4 * np.sqrt((np.sort(sides)[::-1] ** 2.0 - 1) / 12)  # of a uniform distribution
    np.testing.assert_allclose(record["axes"], expected, rtol=1e-6)
    np.testing.assert_allclose(record["std_rgb"], 127.5)


def test_a_cell_measures_the_same_in_any_window_that_holds_it() -> None:
    labels = blobs(3)
    rgb = picture(labels.shape)
    view = WorkingView(ArraySlide(rgb), None)
    measurer = CellMeasurer(view, ArrayLabels((labels > 0).astype(np.uint8)), 2)
    whole = measured(labels, rgb)
    y0, x0, y1, x1 = whole.records["box"][40]
    part = np.where(labels == 41, np.uint32(1), np.uint32(0))[y0 : y1 + 3, x0 : x1 + 2]
    alone = measurer.measure(
        CellRuns.of_labels(part), whole.records["first"][40:41], (int(y0), int(x0))
    )
    assert alone.records.tobytes() == whole.records[40:41].tobytes()
    np.testing.assert_array_equal(alone.outlines.points, whole.part(40, 41).outlines.points)


def test_a_cell_is_of_the_class_of_most_of_its_pixels() -> None:
    labels = np.zeros((6, 9), np.uint32)
    labels[1:3, 1:5], labels[4, 6:9] = 1, 2
    classes = np.where(labels > 0, 2, 0).astype(np.uint8)
    classes[1, 1] = classes[4, 6] = classes[4, 7] = 1
    view = WorkingView(ArraySlide(picture(labels.shape)), None)
    measurer = CellMeasurer(view, ArrayLabels(classes), 3)
    found = measurer.measure(CellRuns.of_labels(labels), first_pixels(labels), (0, 0))
    assert found.records["class"].tolist() == [2, 1]
    assert found.records["touches_border"].tolist() == [False, True]
    assert np.isnan(found.records["class_probability"]).all()


def test_class_probability_is_the_mean_over_the_cell() -> None:
    labels = np.zeros((4, 5), np.uint32)
    labels[1:3, 1:3] = 1
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
    view = WorkingView(ArraySlide(picture(labels.shape)), None)
    classes = ArrayLabels(labels.astype(np.uint8))
    measurer = CellMeasurer(view, classes, 2, probability=ArrayLabels(grey))
    found = measurer.measure(CellRuns.of_labels(labels), first_pixels(labels), (0, 0))
    assert found.records["class_probability"][0] == pytest.approx(grey[1:3, 1:3].mean() / 255)


@pytest.mark.parametrize(
    ("dtype", "seen", "top"), [("u1", 90, 255), ("u2", 3100, 4095), ("u2", 70, 255)]
)
def test_intensities_span_the_bits_that_a_slide_uses(dtype: str, seen: float, top: float) -> None:
    assert intensity_range(np.dtype(dtype), (0, seen)) == (0, top)


def test_packed_cells_come_back_as_they_were() -> None:
    from cellseg.runtime.store.packing import pack

    cells = measured(blobs(4))
    again = MeasuredCells.from_packed(pack(cells.records), cells.packed_outlines())
    assert again.records.tobytes() == cells.records.tobytes()
    for name in ("points", "ring_sizes", "ring_counts"):
        np.testing.assert_array_equal(getattr(again.outlines, name), getattr(cells.outlines, name))


def test_lots_of_cells_are_sorted_with_their_outlines() -> None:
    cells = measured(blobs(5))
    odd, even = (np.arange(start, len(cells), 2) for start in (1, 0))
    parts = [MeasuredCells(cells.records[o], cells.outlines.taken(o)) for o in (odd, even)]
    again = MeasuredCells.sorted(parts)
    np.testing.assert_array_equal(again.records["first"], cells.records["first"])
    np.testing.assert_array_equal(again.outlines.points, cells.outlines.points)
    np.testing.assert_array_equal(again.outlines.ring_sizes, cells.outlines.ring_sizes)


def test_parts_are_merged_in_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellseg.runtime.cells.measured.BATCH_CELLS", 16)
    cells = measured(blobs(6))
    turns = [np.arange(start, len(cells), 3) for start in range(3)]
    parts = [MeasuredCells(cells.records[t], cells.outlines.taken(t)) for t in turns]
    lots = list(merged(parts))
    again = list(even_lots([cells.part(0, 5), cells.part(5, 40), cells.part(40, len(cells))]))
    for lot, other in zip(lots, again, strict=True):
        assert lot.records.tobytes() == other.records.tobytes()
        np.testing.assert_array_equal(lot.outlines.points, other.outlines.points)
    assert [len(lot) for lot in lots[:-1]] == [16] * (len(cells) // 16)
    assert np.concatenate([lot.records for lot in lots]).tobytes() == cells.records.tobytes()
    points = np.concatenate([lot.outlines.points for lot in lots])
    np.testing.assert_array_equal(points, cells.outlines.points)
    assert list(merged([])) == list(even_lots([])) == []


def test_the_table_is_in_level_0_pixels_and_microns() -> None:
    labels = np.zeros((9, 9), np.uint32)
    labels[2:5, 3:7] = 1
    names = ("background", "nucleus")
    table = CellTable.of(measured(labels), CellFrame(2.0, (0.5, 0.5), names))
    assert list(table) == [column.name for column in COLUMNS]
    assert (table.cell_count, len(table), table["class"].tolist()) == (1, 26, ["nucleus"])
    assert [table[f"{name}_px"][0] for name in ("x", "y", "x0", "y0", "x1", "y1")] == [
        *(10, 7),
        *(6, 4, 14, 10),
    ]
    assert (table["area_px"][0], table["area_um2"][0]) == (12, 3)
    assert table["equivalent_diameter_um"][0] == pytest.approx(2 * np.sqrt(3 / np.pi))
    cut = CellTable.of(measured(labels), CellFrame(2.0, (0.5, 0.5), names, (9, 13)))
    assert (cut["y1_px"][0], cut["x1_px"][0]) == (9, 13)  # the slide ends there
    unknown = CellTable.of(measured(labels), CellFrame(2.0, None, names))
    assert np.isnan(unknown["area_um2"][0])
    assert np.isnan(unknown["major_axis_um"][0])
    assert unknown["eccentricity"][0] == table["eccentricity"][0]
