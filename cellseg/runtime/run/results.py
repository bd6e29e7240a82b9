"""From a store that holds all tiles to the files of a finished run."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellseg.runtime.memory.budget import peak_rss_mb
from cellseg.runtime.run.inside import Inside
from cellseg.runtime.run.writing import write_outputs
from cellseg.runtime.store.labels import StoredPlane
from cellseg.runtime.writers.atomic import replacing
from cellseg.runtime.writers.finished import FinishedRun
from cellseg.runtime.writers.run_json import Measured, run_report, write_run_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.cells.slide_cells import SlideCells
    from cellseg.runtime.engines import Engine
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.jobs.options import InferOptions, Phase, Progress
    from cellseg.runtime.jobs.outputs import Output
    from cellseg.runtime.run.session import TileSession
    from cellseg.runtime.store.labels import LabelSource
    from cellseg.runtime.store.result_store import ResultStore

    class Tell(Protocol):
        """Reports the phase of a run."""

        def __call__(self, phase: Phase, done: Progress | None = None) -> None: ...


__all__ = ["RUN_JSON", "write_results"]

_LOG = logging.getLogger(__name__)

RUN_JSON = "run.json"


def write_results(
    folder: Path,
    job: Job,
    engine: Engine,
    store: ResultStore,
    session: TileSession,
    options: InferOptions,
    outputs: Mapping[str, Output],
    tell: Tell,
) -> dict[str, Any]:
    """Write the files of a run whose tiles are all done, ``run.json`` last.

    Parameters
    ----------
    folder : Path
        Where they go.
    job, engine, store, session
        The run.
    options : InferOptions
        How they are written.
    outputs : mapping of name to Output
        What is written, in this order.
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
    if "interior" in job.planes:
        with session.clock.busy("cells"):
            cells = _tell_apart(job, store, session, options, partial(tell, "cells"))
    tell("write", done)
    probability = None
    if "probability" in job.planes:
        probability = _shown(job, StoredPlane(job.plan, store, "probability"))
    classes = _shown(job, StoredPlane(job.plan, store))
    run = FinishedRun(job, options, classes, cells, probability, cells)
    with session.clock.busy("write"):
        # A budget is divided on the understanding that one file is written at a time.
        write_outputs(folder, run, outputs.values(), at_once=options.max_ram_bytes is None)
        class_px = _within_regions(run.survey.counts, job)
    summary = None if cells is None else cells.summary()
    for doubt in summary["doubts"] if summary else ():
        _LOG.warning(doubt)
    measured = Measured(
        wall_s=session.wall_s,
        stages_s=session.clock.seconds(),
        sessions=session.sessions + 1,
        tiles_resumed=session.resumed,
        class_px=class_px,
        source_tiles=session.source_counts,
        damaged=session.damaged(),
        cells=None if cells is None else cells.counts,
        cells_summary=summary,
        peak_rss_mb=peak_rss_mb(),
    )
    files = {folder / output.file: output.settings_of(options) for output in outputs.values()}
    report = run_report(job, engine, measured, files, store.identity or {})
    with replacing(folder / RUN_JSON) as target:
        write_run_json(target, report)
    return report


def _shown(job: Job, plane: LabelSource) -> LabelSource:
    """Return of a map what was asked for: more is stored, so that cells on an edge are whole."""
    for limit in job.limits:
        plane = Inside(plane, limit)
    return plane


def _within_regions(class_px: NDArray[np.int64], job: Job) -> NDArray[np.int64]:
    """Count no background beyond the regions that alone were wanted."""
    if job.roi is None:
        return class_px
    return np.concatenate(([job.roi.count_px(job.view.hw) - class_px[1:].sum()], class_px[1:]))


def _tell_apart(
    job: Job,
    store: ResultStore,
    session: TileSession,
    options: InferOptions,
    tell: Callable[[Progress], None],
) -> SlideCells:
    from cellseg.runtime.cells.slide_cells import tell_apart

    state = session.progress()

    def progress(done: int, total: int) -> None:
        tell(replace(state, tiles_done=done, tiles_total=total))

    threads, picture = session.region_threads, session.picture
    cells = tell_apart(job, store, threads, session.commit, progress, options.simplify_px, picture)
    if picture is not None:
        picture.clear()
    return cells
