"""From a store that holds all tiles to the files of a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellseg.runtime.labels import ArrayLabels, StoredClasses, windows
from cellseg.runtime.memory import peak_rss_mb
from cellseg.runtime.overview import ClassSurvey, halvings_to_fit, read_overview
from cellseg.runtime.store import unpack
from cellseg.runtime.writers.atomic import replacing
from cellseg.runtime.writers.ome_tiff import TILE_PX, LabelImage, write_ome_tiff
from cellseg.runtime.writers.overlay import LONGEST_PX, draw_overlay, write_jpeg
from cellseg.runtime.writers.run_json import Measured, run_report, write_run_json

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.job import Job
    from cellseg.runtime.options import Phase, Progress
    from cellseg.runtime.session import TileSession
    from cellseg.runtime.store import ResultStore

    class Tell(Protocol):
        """Reports the phase of a run."""

        def __call__(self, phase: Phase, done: Progress | None = None) -> None: ...


__all__ = ["OUTPUT_NAMES", "RUN_JSON", "write_results"]

RUN_JSON = "run.json"
LABELS_NAME = "labels.ome.tif"
OUTPUT_NAMES = {"classes": "classes.ome.tif", "overlay": "overlay.jpg"}
"""File of each output that a user may ask for."""


def write_results(
    folder: Path,
    job: Job,
    engine: Engine,
    store: ResultStore,
    session: TileSession,
    wanted: Collection[str],
    tell: Tell,
) -> dict[str, Any]:
    """Write the files of a run whose tiles are all done, ``run.json`` last.

    Parameters
    ----------
    folder : Path
        Where they go.
    job, engine, store, session
        The run.
    wanted : collection of str
        Keys of `OUTPUT_NAMES`.
    tell : callable
        Reports the phase.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    StoreError
        If the disk is full or cannot be written. The store still holds everything.
    """
    done = session.progress()
    cells = None
    if job.keeps_channels:
        tell("cells", done)
        with session.clock.busy("cells"):
            cells = _tell_apart(job, store)
    tell("write", done)
    with session.clock.busy("write"):
        survey, files = _write_files(folder, job, store, cells, wanted)
    measured = Measured(
        wall_s=session.wall_s,
        stages_s=session.clock.seconds(),
        sessions=session.sessions + 1,
        tiles_resumed=session.resumed,
        class_px=survey.counts,
        cells=None if cells is None else cells.counts,
        peak_rss_mb=peak_rss_mb(),
    )
    report = run_report(job, engine, measured, files, store.identity or {})
    with replacing(folder / RUN_JSON) as partial:
        write_run_json(partial, report)
    return report


def _write_files(
    folder: Path,
    job: Job,
    store: ResultStore,
    cells: _Cells | None,
    wanted: Collection[str],
) -> tuple[ClassSurvey, list[Path]]:
    """Write all but the report; count the classes on the way."""
    classes = StoredClasses(job.plan, store)
    halvings = halvings_to_fit(classes.hw, LONGEST_PX)
    survey = ClassSurvey(classes.hw, len(job.class_names), halvings)
    files = []
    if "classes" in wanted:
        image = LabelImage("classes", job.view.mpp, job.class_names, job.palette)
        files.append(folder / OUTPUT_NAMES["classes"])
        with replacing(files[-1]) as partial:
            write_ome_tiff(partial, classes, image, survey.see)
    else:
        for window in windows(classes.hw, TILE_PX):
            survey.see(window[0], window[1], classes.read(*window))
    if "classes" in wanted and cells is not None:
        files.append(folder / LABELS_NAME)
        with replacing(files[-1]) as partial:
            write_ome_tiff(partial, ArrayLabels(cells.labels), LabelImage("labels", job.view.mpp))
    if "overlay" in wanted:
        files.append(folder / OUTPUT_NAMES["overlay"])
        with replacing(files[-1]) as partial:
            write_jpeg(partial, _overlay(job, survey, cells, halvings))
    return survey, files


def _overlay(
    job: Job, survey: ClassSurvey, cells: _Cells | None, halvings: int
) -> NDArray[np.uint8]:
    picture = read_overview(job.view, job.value_range, halvings)
    objects = None if cells is None or halvings else cells.labels
    return draw_overlay(picture, survey.overview, job.palette, objects=objects, halvings=halvings)


@dataclass(frozen=True)
class _Cells:
    """The cells of a small image."""

    labels: NDArray[np.uint32]
    """Label map (H, W)."""

    counts: dict[str, int]
    """Cells of each class; a cell's class is that of its first pixel."""


def _tell_apart(job: Job, store: ResultStore) -> _Cells:
    """Tell the cells of a small image apart, all at once: no seam can cut one."""
    from cellseg.runtime.cells import instances_from_probabilities, renumber

    rule = job.bundle.manifest.head.instances
    assert rule is not None
    labels = instances_from_probabilities(_channels(job, store), rule, job.rule.threshold)
    classes = StoredClasses(job.plan, store).read(0, 0, *job.view.hw)
    if labels[classes == 0].any():  # outside the tissue
        labels = renumber(np.where(classes == 0, np.uint32(0), labels))
    ids, first = np.unique(labels, return_index=True)
    of_cells = classes.reshape(-1)[first[ids != 0]]
    counts = np.bincount(of_cells, minlength=len(job.class_names)).tolist()
    return _Cells(labels, dict(zip(job.class_names[1:], counts[1:], strict=True)))


def _channels(job: Job, store: ResultStore) -> NDArray[np.float32]:
    """Put the network's output together; background where no tile was run."""
    whole = np.zeros((*job.view.hw, len(job.bundle.manifest.channels)), np.float32)
    whole[..., 0] = 1
    for index in store.done():
        tile = job.plan.tile(int(index))
        shape = (*tile.keep_hw, whole.shape[2])
        whole[tile.outer] = unpack(store.channels(tile.index) or b"", shape, np.float32)
    return whole
