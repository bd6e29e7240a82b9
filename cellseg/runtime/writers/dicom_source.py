"""The image that a DICOM Segmentation is of: the slide's own headers, or a stand-in.

A Segmentation lies in a patient, a study and a slide coordinate system, and highdicom takes all of
them from a whole-slide image. Where the slide is DICOM that image is the level that was read. For
any other slide a header in memory stands in, with what is known: the pixel size and a name. Its
study and its coordinate system are the same for every result of one slide.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellseg.runtime.store.identity import slide_identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset

    from cellseg.runtime.jobs.job import Job

__all__ = ["is_dicom_slide", "source_header"]

_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_ORIENTATION = [0, -1, 0, -1, 0, 0]
"""Of rows and columns on the glass: the label to the right, seen from above, as scanners lay it."""
_UNICODE = "ISO_IR 192"
_LARGE = "PerFrameFunctionalGroupsSequence"


def is_dicom_slide(job: Job) -> bool:
    """Tell whether the slide of a job is DICOM."""
    return job.slide.properties.get("vendor") == "dicom"


def source_header(job: Job) -> Dataset:
    """Return the header of the image that a job's results are of, all that highdicom needs.

    Parameters
    ----------
    job : Job
        Its pixel size is known.

    Returns
    -------
    Dataset
        A VL Whole Slide Microscopy Image without pixels. What a file leaves out, though the
        standard asks for it, is filled in as for a slide that is not DICOM.
    """
    header = _stand_in(job)
    if is_dicom_slide(job):
        header.update(_read_level(job))
        header.SpecificCharacterSet = _UNICODE
    return header


def _read_level(job: Job) -> Dataset:
    """Read the header of the file that holds the level the run has read."""
    from pydicom import dcmread

    level = job.slide.levels[job.view.level]
    size = (level.height_px, level.width_px)
    path = next((p for p in _files_of_series(Path(job.slide.path)) if _size(p) == size), None)
    header = dcmread(path or job.slide.path, stop_before_pixels=True)
    if _LARGE in header:
        del header[_LARGE]  # a place for each of thousands of tiles: not needed
    header.decode()
    return header


def _files_of_series(path: Path) -> Iterator[Path]:
    """Yield the slide's file and those of its other levels beside it."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    tags = ["SeriesInstanceUID"]
    series = dcmread(path, specific_tags=tags).get("SeriesInstanceUID")
    yield path
    for other in sorted(path.parent.iterdir()):
        if other == path or not other.is_file():
            continue
        try:
            found = dcmread(other, stop_before_pixels=True, specific_tags=tags)
        except (InvalidDicomError, OSError):
            continue
        if found.get("SeriesInstanceUID") == series:
            yield other


def _size(path: Path) -> tuple[int, int] | None:
    """Return height and width of an image of the whole slide; None for a label or an overview."""
    from pydicom import dcmread

    tags = ["ImageType", "TotalPixelMatrixRows", "TotalPixelMatrixColumns"]
    found = dcmread(path, stop_before_pixels=True, specific_tags=tags)
    if {"LABEL", "OVERVIEW"} & set(found.get("ImageType") or ()):
        return None
    return found.get("TotalPixelMatrixRows"), found.get("TotalPixelMatrixColumns")


def _stand_in(job: Job) -> Dataset:
    """Return a header that says of a slide what is known without DICOM."""
    from pydicom import Dataset

    assert job.view.mpp is not None  # the table says that it is needed
    level = job.slide.levels[job.view.level]
    mm_xy = [mpp / job.view.scale / 1000 for mpp in job.view.mpp]
    header = _described(_empty_patient_and_study() | _names(job))
    header.TotalPixelMatrixRows, header.TotalPixelMatrixColumns = level.height_px, level.width_px
    header.ImageOrientationSlide = _ORIENTATION
    # Rows run against y and columns against x, so the first pixel is the farthest from the origin.
    origin = {
        "XOffsetInSlideCoordinateSystem": round(level.height_px * mm_xy[1], 6),
        "YOffsetInSlideCoordinateSystem": round(level.width_px * mm_xy[0], 6),
    }
    header.TotalPixelMatrixOriginSequence = [_described(origin)]
    shared = Dataset()
    spacing = {"PixelSpacing": [_ds(mm_xy[1]), _ds(mm_xy[0])], "SliceThickness": 0.001}
    shared.PixelMeasuresSequence = [_described(spacing)]
    header.SharedFunctionalGroupsSequence = [shared]
    return header


def _empty_patient_and_study() -> dict[str, Any]:
    """Return what must be there and may be empty."""
    text = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber")
    study = ("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName")
    return dict.fromkeys((*text, *study), "")


def _names(job: Job) -> dict[str, Any]:
    """Return what a slide is called, and what it is."""
    slide_id = slide_identity(job.slide)
    name = Path(job.slide.path).stem[:64] or "slide"
    specimen = {
        "SpecimenIdentifier": name,
        "SpecimenUID": _uid(slide_id, "specimen"),
        "IssuerOfTheSpecimenIdentifierSequence": [],
        "SpecimenPreparationSequence": [],
    }
    return {
        "SpecificCharacterSet": _UNICODE,
        "SOPClassUID": _WHOLE_SLIDE,
        "SOPInstanceUID": _uid(slide_id, "image"),
        "StudyInstanceUID": _uid(slide_id, "study"),
        "SeriesInstanceUID": _uid(slide_id, "series"),
        "FrameOfReferenceUID": _uid(slide_id, "frame of reference"),
        "PositionReferenceIndicator": "SLIDE_CORNER",
        "Modality": "SM",
        "ImageType": ["DERIVED", "PRIMARY", "VOLUME", "NONE"],
        "ContainerIdentifier": name,
        "IssuerOfTheContainerIdentifierSequence": [],
        "ContainerTypeCodeSequence": [],
        "SpecimenDescriptionSequence": [_described(specimen)],
        "NumberOfFrames": 1,
        "Rows": 1,
        "Columns": 1,
    }


def _described(attributes: dict[str, Any]) -> Dataset:
    from pydicom import Dataset

    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def _uid(slide_id: str, what: str) -> str:
    """Return an identifier that is always the same for the same slide."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'cellseg {what} {slide_id}').int}"


def _ds(value: float) -> str:
    """Return a number as DICOM's decimal string, at most 16 characters."""
    return f"{value:.9g}"
