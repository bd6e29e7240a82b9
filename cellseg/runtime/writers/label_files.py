"""Maps of classes, cells and probability as OME-TIFF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.runtime.store.labels import mean_halved
from cellseg.runtime.writers.ome_tiff import LabelImage, write_ome_tiff

if TYPE_CHECKING:
    from pathlib import Path

    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["write_classes", "write_labels", "write_probability"]


def write_classes(path: Path, run: FinishedRun) -> None:
    """Write the class map with its palette; the survey of the run is made on the way."""
    job = run.job
    image = LabelImage("classes", job.view.mpp, job.class_names, job.palette)
    write_ome_tiff(path, run.classes, image, run.begin_survey().see)


def write_labels(path: Path, run: FinishedRun) -> None:
    """Write the number of the cell at every pixel."""
    assert run.cells is not None  # the table says that it needs them
    write_ome_tiff(path, run.cells, LabelImage("labels", run.job.view.mpp))


def write_probability(path: Path, run: FinishedRun) -> None:
    """Write the probability of foreground in shades of grey; its pyramid is made by the mean."""
    image = LabelImage("probability of foreground", run.job.view.mpp)
    write_ome_tiff(path, run.probability, image, halve=mean_halved)
