"""The class map as a DICOM Segmentation: what pydicom and highdicom see in it."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from cellseg.errors import CellsegError, StoreError
from cellseg.runtime.jobs import wanted
from cellseg.runtime.jobs.job import Job, prepare
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.labels import ArrayLabels
from cellseg.runtime.writers import dicom_seg
from cellseg.runtime.writers.dicom_seg import write_classes_dicom
from cellseg.runtime.writers.dicom_source import source_header
from cellseg.runtime.writers.finished import FinishedRun
from tests.fakes import fake_bundle, nuclei_picture, run_fake

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

REASON = "highdicom is not installed: pip install 'cellseg[dicom]'"
CLASSES = [
    {"name": "background", "color": [0, 0, 0]},
    {"name": "nucleus", "color": [255, 200, 0]},
    {"name": "Kernkörperchen", "color": [0, 90, 255]},
    {"name": "a class that is nowhere", "color": [9, 9, 9]},
]
CHANNELS = [{"name": item["name"], "class_index": i} for i, item in enumerate(CLASSES)]
TIMES = ("Date", "Time", "DateTime")


@pytest.fixture
def highdicom() -> Any:
    return pytest.importorskip("highdicom", reason=REASON)


def job_of(tmp_path: Path, slide: Any, **changes: Any) -> Job:
    named = {"classes": CLASSES, "channels": CHANNELS} | changes
    return prepare(slide, fake_bundle(tmp_path / "fake.cellseg", **named), InferOptions())


def some_labels(hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Return two classes in blocks larger than what two halvings can lose."""
    coarse = np.random.default_rng(3).integers(0, 3, (hw[0] // 40 + 1, hw[1] // 40 + 1))
    return np.kron(coarse, np.ones((40, 40), int))[: hw[0], : hw[1]].astype(np.uint8)


def write(tmp_path: Path, job: Job, labels: NDArray[np.uint8], name: str = "classes.dcm") -> Path:
    path = tmp_path / name
    write_classes_dicom(path, FinishedRun(job, InferOptions(), ArrayLabels(labels)))
    return path


def array_job(tmp_path: Path, hw: tuple[int, int]) -> Job:
    return job_of(tmp_path, ArraySlide(np.zeros((*hw, 3), np.uint8), mpp=0.25))


@pytest.mark.parametrize("hw", [(1, 1), (512, 1024), (1100, 700)])
def test_highdicom_reads_back_the_class_of_every_pixel(
    tmp_path: Path, hw: tuple[int, int], highdicom: Any
) -> None:
    labels = some_labels(hw)
    path = write(tmp_path, array_job(tmp_path, hw), labels)
    found = highdicom.seg.segread(path)
    np.testing.assert_array_equal(found.get_total_pixel_matrix(combine_segments=True), labels)
    assert [found.get_segment_description(n).segment_label for n in (1, 2, 3)] == [
        "nucleus",
        "Kernkörperchen",
        "a class that is nowhere",
    ]
    assert found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing == [
        0.00025,
        0.00025,
    ]


def test_a_frame_lies_where_the_standard_counts_it_for_pydicom(
    tmp_path: Path, highdicom: Any
) -> None:
    from pydicom import dcmread

    labels = some_labels((600, 1100))
    found = dcmread(write(tmp_path, array_job(tmp_path, (600, 1100)), labels))
    assert (found.DimensionOrganizationType, found.NumberOfFrames) == ("TILED_FULL", 3 * 6)
    second_of_row_two = found.pixel_array[6 + 4]  # of the second segment
    np.testing.assert_array_equal(second_of_row_two[:88, :512], labels[512:, 512:1024] == 2)
    assert not second_of_row_two[88:].any()


def test_the_file_is_what_highdicom_makes_of_the_whole_map(tmp_path: Path, highdicom: Any) -> None:
    """Our frames are streamed into its header, so the header must be that of the whole."""
    from pydicom import dcmread

    labels = some_labels((600, 1100))
    job = array_job(tmp_path, labels.shape)
    found = dcmread(write(tmp_path, job, labels))
    whole = highdicom.seg.Segmentation(
        [source_header(job)],
        labels,
        "BINARY",
        dicom_seg._segments(job),
        found.SeriesInstanceUID,
        1,
        found.SOPInstanceUID,
        1,
        "cellseg",
        found.ManufacturerModelName,
        found.SoftwareVersions,
        found.DeviceSerialNumber,
        content_label="CLASSES",
        dimension_organization_type="TILED_FULL",
        tile_pixel_array=True,
        tile_size=(512, 512),
        omit_empty_frames=False,
        series_description=found.SeriesDescription,
        specific_character_set="ISO_IR 192",
    )
    whole.save_as(tmp_path / "whole.dcm")
    theirs = dcmread(tmp_path / "whole.dcm")
    for element in theirs:
        if not element.keyword.endswith(TIMES) and element.VR != "SQ":
            assert found.get(element.keyword) == element.value, element.keyword
    assert found.SegmentSequence == theirs.SegmentSequence
    assert found.SharedFunctionalGroupsSequence == theirs.SharedFunctionalGroupsSequence
    assert found.TotalPixelMatrixOriginSequence == theirs.TotalPixelMatrixOriginSequence


def test_a_slide_that_is_not_dicom_is_not_referred_to_but_keeps_its_place(
    tmp_path: Path, highdicom: Any
) -> None:
    from pydicom import dcmread

    job = array_job(tmp_path, (40, 60))
    one, two = (
        dcmread(write(tmp_path, job, some_labels((40, 60)), name)) for name in ("a.dcm", "b.dcm")
    )
    assert "ReferencedSeriesSequence" not in one
    assert "SourceImageSequence" not in one
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.FrameOfReferenceUID == two.FrameOfReferenceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    other = job_of(tmp_path, ArraySlide(np.ones((40, 60, 3), np.uint8), mpp=0.25))
    assert source_header(other).StudyInstanceUID != one.StudyInstanceUID


def test_a_dicom_slide_lends_its_patient_study_and_coordinates(
    tmp_path: Path, shared_data: Path, highdicom: Any
) -> None:
    pytest.importorskip("openslide")
    from pydicom import dcmread
    from pydicom.config import disable_value_validation

    with disable_value_validation():  # an identifier of this real slide is too long
        source = dcmread(shared_data / "slides" / "camelyon-resampled.dcm")
        source.PatientName, source.PatientID = "Müller^Jürgen", "p 1"
        source.SpecificCharacterSet = "ISO_IR 100"
        source.save_as(tmp_path / "slide.dcm")
        (tmp_path / "note.txt").write_text("lies beside it")
        job = job_of(tmp_path, open_slide(tmp_path / "slide.dcm"), mpp=57.937)
        labels = some_labels(job.view.hw)
        found = highdicom.seg.segread(write(tmp_path, job, labels, "out.dcm"))
        job.slide.close()
        np.testing.assert_array_equal(found.get_total_pixel_matrix(combine_segments=True), labels)
    assert labels.shape == (350, 576)
    assert (str(found.PatientName), found.PatientID) == ("Müller^Jürgen", "p 1")
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "ImageOrientationSlide"):
        assert found.get(keyword) == source.get(keyword)
    assert found.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    spacing = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    measured = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    np.testing.assert_allclose(spacing, 2 * np.array(measured, float), rtol=1e-4)


def test_the_level_that_was_read_is_the_one_referred_to(
    tmp_path: Path, shared_data: Path, highdicom: Any
) -> None:
    pytest.importorskip("openslide")
    from pydicom import dcmread
    from pydicom.config import disable_value_validation

    with disable_value_validation():
        header = dcmread(shared_data / "slides" / "camelyon-resampled.dcm")
        header.save_as(tmp_path / "level1.dcm")
        job = job_of(tmp_path, open_slide(tmp_path / "level1.dcm"))
        wanted = header.SOPInstanceUID
        header.TotalPixelMatrixRows, header.SOPInstanceUID = 9999, "1.2.3"
        header.save_as(tmp_path / "level0.dcm")
        job.slide.path = str(tmp_path / "level0.dcm")  # opened by its other level
        assert source_header(job).SOPInstanceUID == wanted
        job.slide.close()


def test_what_one_file_cannot_hold_is_written_at_half_its_size_and_said(
    tmp_path: Path,
    highdicom: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    labels = some_labels((1500, 1100))  # 9 tiles; 2 at half the size
    monkeypatch.setattr(dicom_seg, "_MOST_BYTES", 3 * 5 * dicom_seg._FRAME_BYTES)
    with caplog.at_level(logging.WARNING):
        path = write(tmp_path, array_job(tmp_path, labels.shape), labels)
    assert "at 1/2 of the working resolution" in caplog.text
    found = highdicom.seg.segread(path)
    np.testing.assert_array_equal(
        found.get_total_pixel_matrix(combine_segments=True), labels[::2, ::2]
    )
    spacing = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    assert spacing == [0.0005, 0.0005]


def test_a_run_writes_it_beside_the_class_map(tmp_path: Path, highdicom: Any) -> None:
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    slide = ArraySlide(nuclei_picture(600, 700), mpp=0.5)
    names = {"write": ("classes", "dicom-seg"), "kind": "IdentityEngine"}
    result, _ = run_fake(slide, tmp_path / "out", bundle, **names)
    path = result.files["classes.dcm"]
    found = highdicom.seg.segread(path)
    with tifffile.TiffFile(result.files["classes.ome.tif"]) as tif:
        classes = tif.series[0].levels[0].asarray()
    assert classes.any()
    np.testing.assert_array_equal(found.get_total_pixel_matrix(combine_segments=True), classes)
    assert result.report["outputs"]["classes.dcm"]["bytes"] == path.stat().st_size


def test_a_slide_without_a_pixel_size_is_refused_before_a_tile_is_run(
    tmp_path: Path, highdicom: Any
) -> None:
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    slide = ArraySlide(nuclei_picture(60, 70))
    with pytest.raises(CellsegError, match="'dicom-seg' needs the size of a pixel") as caught:
        run_fake(slide, tmp_path / "out", bundle, write=("dicom-seg",))
    assert caught.value.hint == "Give it, in microns: --mpp 0.5"


def test_without_highdicom_the_install_line_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_there(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(wanted, "version", not_there)
    bundle = fake_bundle(tmp_path / "fake.cellseg").path
    slide = ArraySlide(nuclei_picture(60, 70), mpp=0.5)
    with pytest.raises(
        StoreError, match="needs highdicom 0.28 or newer. Received: not installed"
    ) as caught:
        run_fake(slide, tmp_path / "out", bundle, write=("dicom-seg",))
    assert caught.value.hint == "pip install 'cellseg[dicom]'"
