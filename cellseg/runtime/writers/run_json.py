"""``run.json``, schema ``cellseg.run/1``: what was run, how fast, and what came out.

A number that was not measured is null, never 0.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import cellseg
from cellseg.runtime.machine.facts import this_machine
from cellseg.runtime.slides.channels import chosen_channel
from cellseg.runtime.writers.facts import output_facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.slides.source_tiles import DamagedTile, PassCounts

__all__ = [
    "RUN_SCHEMA",
    "Measured",
    "installed_version",
    "run_report",
    "write_run_json",
]

RUN_SCHEMA = "cellseg.run/1"
_MOST_DAMAGED = 1000
"""Damaged tiles that are listed one by one; all are counted."""
_PACKAGES = ("numpy", "numba", "opencv-python-headless", "tifffile", "imagecodecs")


@dataclass(frozen=True)
class Measured:
    """What is known when the files are written."""

    wall_s: float
    """Seconds of all sessions, preparation and writing included."""

    stages_s: Mapping[str, float | None]
    """Busy seconds by stage, all sessions."""

    sessions: int
    """How many sessions it took."""

    tiles_resumed: int
    """Tiles that earlier sessions had finished."""

    class_px: NDArray[np.int64]
    """Pixels of each class at the working level."""

    cells: Mapping[str, int] | None
    """Cells of each class; None if they were not told apart."""

    cells_summary: Mapping[str, Any] | None
    """Counts, densities and histograms of cells; None if they were not told apart."""

    peak_rss_mb: float | None
    """Largest memory of the process in this session, MiB."""

    source_tiles: PassCounts | None = None
    """Stored tiles that this session touched and decoded; None where the slide has none."""

    damaged: Sequence[DamagedTile] = ()
    """Stored tiles that were taken for background, all sessions, in order."""


def run_report(
    job: Job,
    engine: Engine,
    measured: Measured,
    files: Mapping[Path, Mapping[str, Any]],
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """Put the report together.

    Parameters
    ----------
    job, engine : Job, Engine
        What was run.
    measured : Measured
        What it took and gave.
    files : mapping of Path to settings
        Results, complete, and what they were made with.
    identity : mapping
        Everything the result depends on; kept to recognize a finished run.

    Returns
    -------
    dict
        JSON values.
    """
    area_px = job.view.hw[0] * job.view.hw[1]
    px_mm2 = None if job.view.mpp is None else job.view.mpp[0] * job.view.mpp[1] * 1e-6
    report = {
        "schema": RUN_SCHEMA,
        "status": "done",
        "input": _input_facts(job) | _source_facts(measured),
        "model": {
            "name": job.bundle.manifest.name,
            "version": job.bundle.manifest.version,
            "sha256": job.bundle.sha256,
        },
        "normalize": {
            "kind": job.bundle.manifest.input.normalize.kind,
            **job.seen.as_dict(),
        },
        "engine": {
            "name": engine.name,
            "precision": engine.precision,
            "device": engine.device,
            "threads": engine.threads,
        },
        "plan": _plan_facts(job, measured),
        "roi": _roi_facts(job),
        "stages_s": {name: _rounded(value) for name, value in measured.stages_s.items()},
        "wall_s": _rounded(measured.wall_s),
        "throughput_mpx_s": _rounded(area_px / 1e6 / measured.wall_s),
        "mm2_per_s": None if px_mm2 is None else _rounded(area_px * px_mm2 / measured.wall_s),
        "peak_rss_mb": measured.peak_rss_mb,
        "classes": {
            name: {
                "pixels": int(pixels),
                "area_mm2": None if px_mm2 is None else _rounded(int(pixels) * px_mm2),
            }
            for name, pixels in zip(job.class_names, measured.class_px, strict=True)
        },
        "cells": None if measured.cells is None else dict(measured.cells),
        "cells_summary": None if measured.cells_summary is None else dict(measured.cells_summary),
        "outputs": {path.name: output_facts(path) | dict(made) for path, made in files.items()},
        "provenance": {
            "cellseg": cellseg.__version__,
            "versions": _versions(engine.name),
            "command": shlex.join(sys.argv),
            "machine": asdict(this_machine()),
            "identity": dict(identity),
        },
    }
    return dict(json.loads(json.dumps(report)))  # as it will be read again: lists, no tuples


def write_run_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report; in place, see `cellseg.runtime.writers.atomic.replacing`."""
    text = json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False)
    # A file name that is no UTF-8 becomes an escape of JSON, and itself again when it is read.
    path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed package, or of an engine's; None if it is not there."""
    from importlib import metadata

    from cellseg.runtime.engines.table import ENGINES

    if distribution in ENGINES:  # its package may have another name
        return ENGINES[distribution].installed_version
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _input_facts(job: Job) -> dict[str, Any]:
    base, chosen = job.slide.levels[0], chosen_channel(job.slide)
    return {
        "path": job.slide.path,
        "width_px": base.width_px,
        "height_px": base.height_px,
        "mpp": _mean(job.slide.mpp),
        "mpp_xy": None if job.slide.mpp is None else list(job.slide.mpp),
        "channel": None if chosen is None else chosen.number,
        "channel_name": None if chosen is None else chosen.name,
        "doubts": list(job.doubts),
    }


def _source_facts(measured: Measured) -> dict[str, Any]:
    """Return what became of the tiles in which the slide is stored."""
    listed = [tile.as_dict() for tile in measured.damaged[:_MOST_DAMAGED]]
    return {
        "source_tiles": None if measured.source_tiles is None else asdict(measured.source_tiles),
        "damaged_tiles": {"count": len(measured.damaged), "list": listed},
    }


def _plan_facts(job: Job, measured: Measured) -> dict[str, Any]:
    axis = job.plan.y
    return {
        "level": job.view.level,
        "mpp": _mean(job.view.mpp),
        "fit_px": None if job.view.fit_hw is None else list(job.view.fit_hw),
        "width_px": job.view.hw[1],
        "height_px": job.view.hw[0],
        "tile_px": axis.tile_px,
        "core_px": axis.core_px,
        "halo_px": axis.halo_px,
        "blend": None if job.blend is None else asdict(job.blend),
        "tile_hw": list(job.plan.tile_hw),
        "tiles_total": len(job.plan),
        "tiles_skipped": len(job.plan) - len(job.todo),
        "tiles_resumed": measured.tiles_resumed,
        "sessions": measured.sessions,
        "ground": job.mask.ground,
        "tissue_fraction": None if job.mask.ground == "whole" else _rounded(job.mask.fraction),
    }


def _roi_facts(job: Job) -> dict[str, Any] | None:
    """Which regions alone were wanted, and the area of all together."""
    if job.roi is None:
        return None
    l0_px_mm2 = None if job.slide.mpp is None else job.slide.mpp[0] * job.slide.mpp[1] * 1e-6
    area_px = job.roi.l0_area_px
    return {
        "path": job.roi.path,
        "regions": len(job.roi.regions),
        "area_px": _rounded(area_px),
        "area_mm2": None if l0_px_mm2 is None else _rounded(area_px * l0_px_mm2),
    }


def _mean(mpp: tuple[float, float] | None) -> float | None:
    """One number for a pixel's size: the side of the square of the same area."""
    if mpp is None:
        return None
    return mpp[0] if mpp[0] == mpp[1] else math.sqrt(mpp[0] * mpp[1])


def _rounded(value: float | None) -> float | None:
    """Six digits: more was not measured. A small number stays one."""
    return None if value is None else float(f"{value:.6g}")


def _versions(engine: str) -> dict[str, str]:
    found = {name: installed_version(name) for name in (*_PACKAGES, engine)}
    known = {name: version for name, version in found.items() if version is not None}
    return {"python": this_machine().python, **known}
