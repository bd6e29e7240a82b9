"""From a store that holds all tiles to the files of a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellseg.runtime.finished import Cells, FinishedRun
from cellseg.runtime.labels import StoredPlane
from cellseg.runtime.memory import peak_rss_mb
from cellseg.runtime.store import unpack
from cellseg.runtime.writers.atomic import replacing
from cellseg.runtime.writers.run_json import Measured, run_report, write_run_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.job import Job
    from cellseg.runtime.options import InferOptions, Phase, Progress
    from cellseg.runtime.session import TileSession
    from cellseg.runtime.store import ResultStore
    from cellseg.runtime.writers.table import Output

    class Tell(Protocol):
        """Reports the phase of a run."""

        def __call__(self, phase: Phase, done: Progress | None = None) -> None: ...


__all__ = ["RUN_JSON", "write_results"]

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
    if job.keeps_channels:
        tell("cells", done)
        with session.clock.busy("cells"):
            cells = _tell_apart(job, store)
    tell("write", done)
    run = FinishedRun(job, store, options, cells)
    with session.clock.busy("write"):
        for output in outputs.values():
            with replacing(folder / output.file) as partial:
                output.load()(partial, run)
        class_px = run.survey.counts
    measured = Measured(
        wall_s=session.wall_s,
        stages_s=session.clock.seconds(),
        sessions=session.sessions + 1,
        tiles_resumed=session.resumed,
        class_px=class_px,
        cells=None if cells is None else cells.counts,
        peak_rss_mb=peak_rss_mb(),
    )
    files = {folder / output.file: output.settings_of(options) for output in outputs.values()}
    report = run_report(job, engine, measured, files, store.identity or {})
    with replacing(folder / RUN_JSON) as partial:
        write_run_json(partial, report)
    return report


def _tell_apart(job: Job, store: ResultStore) -> Cells:
    """Tell the cells of a small image apart, all at once: no seam can cut one."""
    from cellseg.runtime.cells import instances_from_probabilities, renumber

    rule = job.bundle.manifest.head.instances
    assert rule is not None
    labels = instances_from_probabilities(_channels(job, store), rule, job.rule.threshold)
    classes = StoredPlane(job.plan, store).read(0, 0, *job.view.hw)
    if labels[classes == 0].any():  # outside the tissue
        labels = np.where(classes == 0, np.uint32(0), labels)
        renumber(labels)
    ids, first = np.unique(labels, return_index=True)
    of_cells = classes.reshape(-1)[first[ids != 0]]
    counts = np.bincount(of_cells, minlength=len(job.class_names)).tolist()
    return Cells(labels, dict(zip(job.class_names[1:], counts[1:], strict=True)))


def _channels(job: Job, store: ResultStore) -> NDArray[np.float32]:
    """Put the network's output together; background where no tile was run."""
    whole = np.zeros((*job.view.hw, len(job.bundle.manifest.channels)), np.float32)
    whole[..., 0] = 1
    for index in store.done():
        tile = job.plan.tile(int(index))
        shape = (*tile.keep_hw, whole.shape[2])
        whole[tile.outer] = unpack(store.channels(tile.index) or b"", shape, np.float32)
    return whole
