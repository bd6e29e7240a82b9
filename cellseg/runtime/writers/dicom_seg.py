"""The class map as a DICOM Segmentation: one segment a class, in the slide's coordinate system.

highdicom writes the header, from the image that was segmented; the frames follow it. They are
square tiles of one bit a pixel, all of a segment before the next, row by row, and the frame of a
place is found by its number alone (TILED_FULL). So they are written tile by tile, each where it
belongs, and memory does not grow with the slide. A file holds 4 GiB of frames: what is larger is
written at half its size, or a quarter.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

import cellseg
from cellseg.runtime.store.labels import ReducedLabels, windows
from cellseg.runtime.writers.dicom_source import is_dicom_slide, source_header

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from pydicom import Dataset

    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.store.labels import LabelSource
    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["write_classes_dicom"]

_LOG = logging.getLogger(__name__)

_TILE_PX = 512
_FRAME_BYTES = _TILE_PX * _TILE_PX // 8
_MOST_BYTES = 2**32 - 2  # what the length of an attribute can say
_PIXEL_DATA = struct.pack("<HH2sH", 0x7FE0, 0x0010, b"OB", 0)
_SCHEME = "99CELLSEG"
_KNOWN = {"nucleus": "Nucleus", "nuclei": "Nucleus", "cell": "Cell", "tissue": "Tissue"}
"""Classes that SNOMED CT has a code for in pydicom's own tables."""


def write_classes_dicom(path: Path, run: FinishedRun) -> None:
    """Write the class map of a run; needs highdicom."""
    from pydicom.config import disable_value_validation

    segments = len(run.job.class_names) - 1
    halvings = _halvings_to_fit(run.classes.hw, segments)
    if halvings:
        _LOG.warning(
            "%s: at 1/%d of the working resolution; a DICOM file holds 4 GiB of frames.",
            path.name,
            2**halvings,
        )
    labels = ReducedLabels(run.classes, halvings)
    with disable_value_validation():  # of the slide's header, which is as it is
        header = _header(run.job, labels.hw, 2**halvings)
    with path.open("wb") as file:
        header.save_as(file, enforce_file_format=True)
        _write_frames(file, labels, segments)


def _halvings_to_fit(hw: tuple[int, int], segments: int) -> int:
    """Return how often a map must be halved until its frames fit into one file."""
    halvings = 0
    while _frames_bytes((-(-hw[0] >> halvings), -(-hw[1] >> halvings)), segments) > _MOST_BYTES:
        halvings += 1
    return halvings


def _frames_bytes(hw: tuple[int, int], segments: int) -> int:
    return segments * _tiles(hw) * _FRAME_BYTES


def _tiles(hw: tuple[int, int]) -> int:
    return -(-hw[0] // _TILE_PX) * -(-hw[1] // _TILE_PX)


def _write_frames(file: BinaryIO, labels: LabelSource, segments: int) -> None:
    """Write the pixels of all segments in one pass; where there are none the file has a hole."""
    tiles = _tiles(labels.hw)
    size = segments * tiles * _FRAME_BYTES
    file.write(_PIXEL_DATA + struct.pack("<I", size))
    start = file.tell()
    file.truncate(start + size)
    for index, (y, x, h, w) in enumerate(windows(labels.hw, _TILE_PX)):
        found = labels.read(y, x, h, w)
        for label in np.flatnonzero(np.bincount(found.ravel(), minlength=segments + 1)[1:]):
            tile = np.zeros((_TILE_PX, _TILE_PX), bool)
            tile[:h, :w] = found == label + 1
            file.seek(start + (int(label) * tiles + index) * _FRAME_BYTES)
            file.write(np.packbits(tile, bitorder="little").tobytes())


def _header(job: Job, hw: tuple[int, int], reduction: int) -> Dataset:
    """Return the whole file but for its frames."""
    from highdicom import UID, PixelMeasuresSequence
    from highdicom.seg import Segmentation

    source = source_header(job)
    measures = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    coarser = job.view.scale * reduction
    spacing = [float(value) * coarser for value in measures.PixelSpacing]
    card = job.bundle.manifest
    # highdicom counts the frames of an array that is there; a single one stands for all of them.
    source.TotalPixelMatrixRows = source.TotalPixelMatrixColumns = _TILE_PX
    found = Segmentation(
        source_images=[source],
        pixel_array=np.zeros((_TILE_PX, _TILE_PX), np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=_segments(job),
        series_instance_uid=UID(),
        series_number=1,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="cellseg",
        manufacturer_model_name=f"{card.name} {card.version}"[:64],
        software_versions=cellseg.__version__,
        device_serial_number=job.bundle.sha256[:64],
        series_description=f"Classes by {card.name}"[:64],
        content_label="CLASSES",
        pixel_measures=PixelMeasuresSequence(
            spacing, float(measures.get("SliceThickness") or 0.001)
        ),
        dimension_organization_type="TILED_FULL",
        tile_pixel_array=True,
        tile_size=(_TILE_PX, _TILE_PX),
        omit_empty_frames=False,
        specific_character_set="ISO_IR 192",
    )
    found.TotalPixelMatrixRows, found.TotalPixelMatrixColumns = hw
    found.NumberOfFrames = _tiles(hw) * len(found.SegmentSequence)
    del found.PixelData
    if not is_dicom_slide(job):  # no reference to an image that was never written
        del found.ReferencedSeriesSequence, found.SourceImageSequence
    return found


def _segments(job: Job) -> list[Any]:
    """Describe each class but background."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    card = job.bundle.manifest
    by = AlgorithmIdentificationSequence(
        card.name[:64], codes.DCM.ArtificialIntelligence, card.version
    )
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=_code(name),
            algorithm_type="AUTOMATIC",
            algorithm_identification=by,
            display_color=CIELabColor.from_rgb(*map(int, job.palette[number])),
        )
        for number, name in enumerate(job.class_names[1:], 1)
    ]


def _code(name: str) -> Any:
    """Return the code of what a class is: SNOMED's, else one of our own."""
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    known = _KNOWN.get(name.lower())
    return getattr(codes.SCT, known) if known else CodedConcept(name[:64], _SCHEME, name[:64])
