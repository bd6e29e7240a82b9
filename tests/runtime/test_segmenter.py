"""The library's face: images in memory, and slides by their path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from cellseg.errors import CellsegError, SlideError, StoreError
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.infer import infer_slide
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.segmenter import Segmenter, SlideSegmentation, infer_options, segment
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.lazy import LazyLabels
from tests.fakes import (
    CELL_HEAD,
    ConvEngine,
    FakeEngine,
    IdentityEngine,
    fake_bundle,
    nuclei_picture,
)


def segmenter_for(
    path: Path, kind: type[FakeEngine] = ConvEngine, **options: Any
) -> tuple[Segmenter, list[FakeEngine]]:
    opened: list[FakeEngine] = []

    def open_engine(_: Bundle, __: InferOptions, tile_hw: tuple[int, int]) -> Any:
        opened.append(kind(tile_hw))
        return opened[-1]

    chosen = InferOptions(model=path, **options)
    return Segmenter(Bundle.open(path), chosen, open_engine), opened


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return fake_bundle(tmp_path / "m.cellseg").path


@pytest.mark.parametrize("hw", [(1, 1), (95, 61), (200, 240)])
def test_tiled_and_whole_agree_and_have_the_images_shape(bundle: Path, hw: tuple[int, int]) -> None:
    image = nuclei_picture(*hw)
    tiled, _ = segmenter_for(bundle, tile_px=64)
    whole, _ = segmenter_for(bundle)
    found, expected = tiled(image), whole(image)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    np.testing.assert_array_equal(found.classes, expected.classes)
    assert found.classes.shape == hw
    assert found.classes.dtype == np.uint8
    assert found.probabilities.shape == (*hw, 2)
    assert (found.labels, found.cell_count, found.cells) == (None, None, None)
    assert found.class_names == ("background", "nucleus")


def test_an_image_gives_what_its_file_gives(tmp_path: Path, bundle: Path) -> None:
    image = nuclei_picture(150, 170)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    run = infer_slide(
        tmp_path / "a.png",
        tmp_path / "out",
        InferOptions(model=bundle, tile_px=64),
        open_engine=lambda _, __, hw: ConvEngine(hw),
    )
    in_memory, _ = segmenter_for(bundle)
    np.testing.assert_array_equal(
        tifffile.imread(run.folder / "classes.ome.tif"), in_memory(image).classes
    )


def test_frames_of_one_size_share_an_engine(bundle: Path) -> None:
    segmenter, opened = segmenter_for(bundle)
    with segmenter:
        for _ in range(3):
            segmenter(nuclei_picture(60, 60))
        segmenter(nuclei_picture(40, 40))
        assert [engine.calls for engine in opened] == [3, 1]
    assert all(engine.is_closed for engine in opened)


def test_old_engines_are_closed(bundle: Path) -> None:
    segmenter, opened = segmenter_for(bundle)
    for side in (20, 30, 40):
        segmenter(nuclei_picture(side, side))
    assert [engine.is_closed for engine in opened] == [True, False, False]
    segmenter.close()


def test_cells_are_numbered(tmp_path: Path) -> None:
    path = fake_bundle(tmp_path / "m.cellseg", head=CELL_HEAD).path
    image = np.zeros((80, 90), np.uint8)
    image[10:20, 10:20] = image[40:50, 60:70] = 255
    found = segmenter_for(path, IdentityEngine)[0](image)
    assert found.cell_count == 2
    assert found.labels is not None
    assert (found.labels[12, 12], found.labels[45, 65]) == (1, 2)
    assert found.cells is not None
    assert found.cells["area_px"].tolist() == [100, 100]
    assert found.cells["x_px"].tolist() == [15, 65]
    assert found.cells["class_probability"].tolist() == [1, 1]
    assert found.cells is found.cells  # measured once


def test_cells_are_those_of_their_frame_when_its_memory_is_used_again(tmp_path: Path) -> None:
    path = fake_bundle(tmp_path / "m.cellseg", head=CELL_HEAD).path
    buffer = np.zeros((80, 90, 3), np.uint8)
    buffer[10:20, 10:20] = (250, 200, 255)
    segmenter, _ = segmenter_for(path, IdentityEngine)
    found = segmenter(buffer)
    buffer[:] = 7  # the camera's next frame
    assert found.cells is not None
    assert [float(found.cells[f"mean_{name}"][0]) for name in ("red", "green", "blue")] == [
        250,
        200,
        255,
    ]


def test_another_pixel_size_is_brought_back_to_the_image(tmp_path: Path) -> None:
    path = fake_bundle(tmp_path / "m.cellseg", mpp=0.5, head=CELL_HEAD).path
    image = np.zeros((121, 161), np.uint8)
    image[40:81, 40:81] = 255
    found = segmenter_for(path, IdentityEngine)[0](image, mpp=0.25)
    assert found.classes.shape == found.probabilities.shape[:2] == image.shape
    assert found.labels is not None
    assert found.labels.shape == image.shape
    wrong = np.count_nonzero((found.classes > 0) != (image > 0))
    assert wrong < 4 * 41 * 2  # the outline, at half the resolution
    assert found.probabilities[60, 60].tolist() == [0, 1]
    assert found.cells is not None
    assert found.cells["x_px"][0] == pytest.approx(60.5, abs=1)  # in the image's pixels
    assert found.cells["area_um2"][0] == pytest.approx(41**2 / 16, rel=0.1)


def test_the_pixel_size_of_the_options_counts_where_a_call_names_none(tmp_path: Path) -> None:
    path = fake_bundle(tmp_path / "m.cellseg", mpp=0.5, head=CELL_HEAD).path
    image = nuclei_picture(120, 160)
    expected = segmenter_for(path, IdentityEngine)[0](image, mpp=0.25)
    segmenter, _ = segmenter_for(path, IdentityEngine, mpp=0.25)
    np.testing.assert_array_equal(segmenter(image).labels, expected.labels)
    whole = segmenter(image, mpp=0.5)  # a call's goes before
    np.testing.assert_array_equal(
        whole.labels, segmenter_for(path, IdentityEngine)[0](image).labels
    )


@pytest.mark.parametrize(
    "option", [{"channel": "DAPI"}, {"roi": "a.geojson"}, {"tissue_mask": "a.png"}], ids=str
)
def test_what_chooses_a_part_of_a_file_is_refused(bundle: Path, option: dict[str, str]) -> None:
    ((name, value),) = option.items()
    with pytest.raises(CellsegError, match=f"{name}='{value}'") as caught:
        Segmenter.load(bundle, **option)
    assert caught.value.hint is not None
    assert Segmenter.load(bundle, tissue_mask=False) is not None


def test_a_finished_runs_cells_are_those_of_one_image(tmp_path: Path) -> None:
    path = fake_bundle(tmp_path / "m.cellseg", head=CELL_HEAD).path
    image = nuclei_picture(150, 170)
    run = infer_slide(
        ArraySlide(image, 0.5),
        tmp_path / "out",
        InferOptions(model=path, tile_px=64, write=("cells", "probability")),
        open_engine=lambda _, __, hw: IdentityEngine(hw),
    )
    expected = segmenter_for(path, IdentityEngine)[0](image, mpp=0.5).cells
    found = SlideSegmentation(run).cells
    assert found is not None
    assert expected is not None
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_grey_deep_and_binary_images_are_taken(bundle: Path, dtype: type) -> None:
    image = (np.eye(40) * (np.iinfo(dtype).max if dtype is not bool else 1)).astype(dtype)
    assert segmenter_for(bundle, IdentityEngine)[0](image).classes.sum() == 40


def test_an_image_of_floats_is_refused(bundle: Path) -> None:
    with pytest.raises(SlideError, match="dtype=float64"):
        segmenter_for(bundle)[0](np.zeros((5, 5)))


def test_whole_numbers_are_not_told_to_be_multiplied(bundle: Path) -> None:
    with pytest.raises(SlideError, match="dtype=int32") as caught:
        segmenter_for(bundle)[0](np.zeros((5, 5), np.int32))
    assert caught.value.hint is not None
    assert "255)" not in caught.value.hint
    assert "astype('uint8')" in caught.value.hint


def test_an_unknown_option_is_named(bundle: Path) -> None:
    with pytest.raises(CellsegError, match="Received: presicion"):
        Segmenter.load(bundle, presicion="int8")
    with pytest.raises(CellsegError, match="Received: tile"):
        segment("a.svs", model=bundle, tile=3)


def test_a_finished_runs_arrays_are_read_where_they_are_asked_for(
    tmp_path: Path, bundle: Path
) -> None:
    run = infer_slide(
        ArraySlide(nuclei_picture(1100, 700)),
        tmp_path,
        InferOptions(model=bundle),
        open_engine=lambda _, __, hw: ConvEngine(hw),
    )
    result = SlideSegmentation(run)
    whole = tifffile.imread(run.folder / "classes.ome.tif")
    classes = result.classes
    assert (classes.shape, classes.dtype, classes.ndim) == ((1100, 700), np.uint8, 2)
    assert (len(classes), classes.size) == (1100, 770_000)
    np.testing.assert_array_equal(np.asarray(classes), whole)
    for key in [
        (slice(500, 530), slice(505, 700)),
        (slice(None, None, 100), slice(-5, None)),
        (slice(1000, 10, -7), 3),
        (-1, -1),
        slice(3, 3),
        7,
        ...,
        (..., 3),
        (slice(5, 9), ...),
    ]:
        np.testing.assert_array_equal(classes[key], whole[key])
    assert result.labels is None
    assert result.cells is None
    assert result.overlay.is_file()
    assert result.report["status"] == "done"
    half = LazyLabels(run.folder / "classes.ome.tif", level=1)
    assert half.shape == (550, 350)


def test_a_file_that_was_not_written_is_named_when_it_is_read(tmp_path: Path, bundle: Path) -> None:
    run = infer_slide(
        ArraySlide(nuclei_picture(20, 20)),
        tmp_path,
        infer_options(model=bundle, write="mask, overlay"),
        open_engine=lambda _, __, hw: ConvEngine(hw),
    )
    result = SlideSegmentation(run)
    assert result.overlay.is_file()
    assert "overlay.jpg, mask.png" in repr(result)
    with pytest.raises(StoreError, match="Received: classes.ome.tif") as caught:
        _ = result.classes
    assert "write=" in str(caught.value.hint)


def test_an_array_is_no_file_and_the_hint_says_what_takes_it(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(SlideError, match="an array of shape") as caught:
        segment(np.zeros((5, 5), np.uint8), model=bundle, out_dir=tmp_path)  # type: ignore[arg-type]
    assert "Segmenter" in str(caught.value.hint)


def test_an_index_that_is_not_there_is_refused(tmp_path: Path, bundle: Path) -> None:
    run = infer_slide(
        ArraySlide(nuclei_picture(20, 20)),
        tmp_path,
        InferOptions(model=bundle),
        open_engine=lambda _, __, hw: ConvEngine(hw),
    )
    classes = SlideSegmentation(run).classes
    with pytest.raises(IndexError, match="20"):
        classes[20]
    with pytest.raises(TypeError, match="slices or integers"):
        classes[[1, 2]]
    with pytest.raises(SlideError, match="level=1"):
        LazyLabels(classes.path, level=1)


@pytest.mark.parametrize(("least_px", "doubted"), [(99, True), (1, False)])
def test_cells_smaller_than_the_model_tells_apart_are_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, least_px: int, doubted: bool
) -> None:
    head = {**CELL_HEAD, "instances": {**CELL_HEAD["instances"], "least_diameter_px": least_px}}
    path = fake_bundle(tmp_path / "m.cellseg", head=head, mpp=0.5).path
    segmenter, _ = segmenter_for(path, IdentityEngine)
    found = segmenter(nuclei_picture(600, 240))
    assert found.cells is not None
    median_px = np.median(np.sqrt(found.cells["area_px"] * 4 / np.pi))
    assert ["half of its cells" in text for text in found.doubts] == [True] * doubted
    assert (f"less than {median_px:.1f} px" in caplog.text) == doubted
