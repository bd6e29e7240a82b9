"""More outputs for a folder that holds a finished run, made from its own files.

The store of a run is gone by then, but its lossless maps hold the same: classes, cells, and the
probability of foreground. Where they are there and unchanged, no tile is run again, and what is
added has the bytes it would have had at first.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cellseg.runtime.cells.file_cells import FileCells
from cellseg.runtime.cells.measure import CellMeasurer
from cellseg.runtime.jobs.outputs import OUTPUTS, outputs_of
from cellseg.runtime.jobs.wanted import draws_cells
from cellseg.runtime.run.results import RUN_JSON
from cellseg.runtime.run.writing import write_outputs
from cellseg.runtime.store.file_labels import FileLabels
from cellseg.runtime.writers.atomic import replacing
from cellseg.runtime.writers.facts import output_facts
from cellseg.runtime.writers.finished import FinishedRun
from cellseg.runtime.writers.run_json import write_run_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.jobs.outputs import Output

__all__ = ["add_outputs", "sources_for"]

_FILES = {
    "classes": OUTPUTS["classes"].file,
    "cells": OUTPUTS["labels"].file,
    "probability": OUTPUTS["probability"].file,
}


def sources_for(
    folder: Path, report: dict[str, Any], missing: Collection[Output], job: Job
) -> dict[str, Path] | None:
    """Return the maps in a folder that some outputs can be made from.

    Parameters
    ----------
    folder : Path
        Holds a finished run.
    report : dict
        What its ``run.json`` says.
    missing : collection of Output
        What is to be made.
    job : Job
        The same run, prepared.

    Returns
    -------
    dict of need to path, or None
        None if a map is missing, or is not what the report says.
    """
    needs: set[str] = {"classes", *(output.needs for output in missing)}
    if any(draws_cells(output, job) for output in missing):
        needs.add("cells")
    made = outputs_of(report["outputs"])
    if "cells" in needs and any(OUTPUTS[name].needs == "probability" for name in made):
        needs.add("probability")  # the run kept it, and each cell's class probability is from it
    judges = "cells" in needs and ("probability" in needs or len(job.class_names) > 2)
    if judges and job.limits:
        return None  # cells on their edge are whole, but the maps that judge them end there
    paths = {need: folder / _FILES[need] for need in sorted(needs)}
    made_anew = {output.file for output in missing}
    for path in paths.values():
        facts = report["outputs"].get(path.name)
        if facts is None or path.name in made_anew or not path.is_file():
            return None
        if output_facts(path)["sha256"] != facts["sha256"]:
            return None
    return paths


def add_outputs(
    folder: Path,
    report: dict[str, Any],
    missing: Iterable[Output],
    sources: dict[str, Path],
    job: Job,
    options: InferOptions,
) -> dict[str, Any]:
    """Make outputs from the maps in a folder and add them to its report.

    Parameters
    ----------
    folder, report, missing, job
        As in `sources_for`.
    sources : dict of need to path
        What that returned.
    options : InferOptions
        How files are written.

    Returns
    -------
    dict
        The report, already written; its times stay those of the run.
    """
    with ExitStack() as stack:
        maps = {need: FileLabels(path) for need, path in sources.items()}
        for each in maps.values():
            stack.callback(each.close)
        measured = None
        if "cells" in maps:
            measurer = CellMeasurer.of(
                job, maps["classes"], maps.get("probability"), options.simplify_px
            )
            measured = FileCells(maps["cells"], measurer, sum(report["cells"].values()))
        write_outputs(folder, FinishedRun(job, options, **maps, measured=measured), missing)
    for output in missing:
        facts = output_facts(folder / output.file) | output.settings_of(options)
        report["outputs"][output.file] = facts
    order = [output.file for output in OUTPUTS.values()]
    report["outputs"] = {
        name: report["outputs"][name] for name in order if name in report["outputs"]
    }
    with replacing(folder / RUN_JSON) as target:
        write_run_json(target, report)
    return report
