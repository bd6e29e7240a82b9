"""One slide or image, from file to result folder: what ``cellseg-cli infer`` calls.

::

    lock the folder -> prepare (range, tissue, plan) -> finished already? -> engine -> store
                    -> tiles through the pipeline -> files -> run.json -> remove the store

``run.json`` comes last and says that the folder holds a finished run. Until then everything that
was computed is in the store, and the same command goes on from there.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cellseg
from cellseg.errors import StoreError
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.jobs.job import open_engine_for, opened_slide, prepare, with_tile
from cellseg.runtime.jobs.options import InferOptions, Progress
from cellseg.runtime.jobs.outputs import outputs_of
from cellseg.runtime.jobs.wanted import outputs_for, planes_for
from cellseg.runtime.machine.facts import usable_cores
from cellseg.runtime.machine.malloc import EVERY_BUFFER, LARGE_BUFFERS, return_freed_memory
from cellseg.runtime.memory.budget import MIN_CACHE_BYTES, reset_peak_rss, resident_bytes
from cellseg.runtime.memory.footprint import check_additions, memory_for
from cellseg.runtime.memory.tiling import most_at_once, tile_for, usage_for
from cellseg.runtime.memory.usage import expected_usage, try_engine
from cellseg.runtime.run.additions import add_outputs, sources_for
from cellseg.runtime.run.result_folder import (
    check_apart,
    check_own,
    forget_run,
    logged_to,
    lost_files,
    made_folder,
    missing_outputs,
    read_report,
    result_folder,
)
from cellseg.runtime.run.results import RUN_JSON, write_results
from cellseg.runtime.run.session import TileSession
from cellseg.runtime.run.warmup import warming
from cellseg.runtime.slides.source_tiles import source_of
from cellseg.runtime.store.identity import check_same_run
from cellseg.runtime.store.lock import FolderLock, UnwritableFolderError
from cellseg.runtime.store.result_store import (
    STORE_NAME,
    ResultStore,
    discard_store,
    stored_identity,
    stored_owed,
)
from cellseg.runtime.view.painted_stain import painted_note
from cellseg.runtime.writers.atomic import replacing
from cellseg.runtime.writers.run_json import installed_version, write_run_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.jobs.options import Phase, ProgressCallback
    from cellseg.runtime.jobs.outputs import Output
    from cellseg.runtime.memory.budget import EngineUsage, MemoryPlan
    from cellseg.runtime.run.engine_shelf import EngineShelf, OpenEngine
    from cellseg.runtime.slides.slide import Slide

__all__ = ["RunResult", "infer_slide"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    folder: Path
    """Where its files are."""

    report: dict[str, Any]
    """Content of ``run.json``."""

    was_done: bool = False
    """Whether an earlier call had finished it, and nothing was run."""

    @property
    def files(self) -> dict[str, Path]:
        """Path of each output, by name."""
        return {name: self.folder / name for name in self.report["outputs"]}


def infer_slide(
    slide: str | os.PathLike[str] | Slide,
    out_dir: str | os.PathLike[str],
    options: InferOptions | None = None,
    progress: ProgressCallback | None = None,
    *,
    open_engine: OpenEngine | None = None,
    engines: EngineShelf | None = None,
) -> RunResult:
    """Run a model over a slide or image and write its result folder.

    Parameters
    ----------
    slide : path or Slide
        What to run. A slide that is given open stays open.
    out_dir : path
        The result goes to a folder of its own in it, see `cellseg.runtime.run.result_folder`.
    options : InferOptions, optional
        Defaults need no configuration.
    progress : callable, optional
        Called from this thread with the state of the run, about ten times a second.
    open_engine : callable, optional
        Opens the engine for a bundle, the options and a tile size; for engines of your own.
    engines : EngineShelf, optional
        Keeps engines open for the next run. With a memory budget, a run opens one of its own, to
        see what it takes.

    Returns
    -------
    RunResult
        Folder and report. A run that is finished already is returned as it is.

    Raises
    ------
    CellsegError
        If input, model, folder or engine are not usable, or a tile fails. What was done is kept,
        and the same call goes on from there.
    KeyboardInterrupt
        The same.
    """
    options = options or InferOptions()
    reset_peak_rss()
    started_s = time.perf_counter()
    bundle = Bundle.open(options.model)
    with opened_slide(slide, options.mpp, options.channel) as opened:
        if (source := source_of(opened)) is not None:
            source.skips_damage = options.on_error == "skip"
        return_freed_memory(LARGE_BUFFERS if options.max_ram_bytes is None else EVERY_BUFFER)
        _set_cache(opened, MIN_CACHE_BYTES)
        # A folder of DICOM files is named as it was given, not after one of its files.
        named = slide if isinstance(slide, (str, os.PathLike)) else opened.path
        folder = result_folder(named, out_dir)
        check_apart(folder, Path(named))
        run = _Run(opened, bundle, folder, options, progress, open_engine, engines, started_s)
        with made_folder(folder), ExitStack() as held:
            try:
                held.enter_context(FolderLock(folder))
            except UnwritableFolderError as refusal:
                return run.found(refusal)
            check_own(folder)
            held.enter_context(logged_to(folder))
            return run.result()


@dataclass(frozen=True)
class _Run:
    """One call of `infer_slide`, its folder held."""

    slide: Slide
    bundle: Bundle
    folder: Path
    options: InferOptions
    notify: ProgressCallback | None
    open_engine: OpenEngine | None
    engines: EngineShelf | None
    started_s: float

    def result(self) -> RunResult:
        """Return the finished run if there is one, else run."""
        self._tell("open")
        finished = read_report(self.folder)
        if self.options.restart:
            if (self.folder / STORE_NAME).exists():  # it may have written some of its files
                forget_run(self.folder)
            discard_store(self.folder)
        elif finished is not None:
            return self._finished_or_more(finished)
        return self._run(self._prepare(stored_identity(self.folder)), finished)

    def found(self, refusal: UnwritableFolderError) -> RunResult:
        """Return the finished run of a folder that cannot be written, if nothing is missing."""
        finished = read_report(self.folder)
        if finished is None or self.options.restart:
            raise refusal
        self._tell("open")
        job = self._same_job(finished)
        missing = self._missing(finished, job)
        if missing is None or lost_files(self.folder, finished):
            raise refusal
        if missing:
            names = ", ".join(output.file for output in missing)
            raise UnwritableFolderError(
                "What a finished run lacks must be written to a folder that can be written. "
                f"Received: folder={self.folder}, without {names}.",
                hint="Choose another folder with -o, or ask with --write for what is there.",
            ) from refusal
        return self._done_already(self._renamed(finished, job))

    def _finished_or_more(self, finished: dict[str, Any]) -> RunResult:
        """Return the folder's finished run; make what is missing, from its files if that can be."""
        job = self._same_job(finished)
        missing = self._missing(finished, job)
        if missing is None:
            return self._run(job, finished)
        finished = self._renamed(finished, job)
        if not missing:
            discard_store(self.folder)
            return self._done_already(finished)
        sources = sources_for(self.folder, finished, missing, job)
        if sources is None:
            return self._run(job, finished)
        check_additions(job, outputs_of(each.file for each in missing), self.options.max_ram_bytes)
        self._tell("write")
        report = add_outputs(self.folder, finished, missing, sources, job, self.options)
        names = ", ".join(output.file for output in missing)
        _LOG.info("%s: added %s, see %s", self.slide.path, names, self.folder)
        return RunResult(self.folder, report)

    def _renamed(self, finished: dict[str, Any], job: Job) -> dict[str, Any]:
        """Return a report that counts its regions under the names that they have now."""
        from cellseg.runtime.cells.summary import renamed_regions

        counts = renamed_regions(finished.get("cells_summary"), job)
        if counts is None:
            return finished
        summary = finished["cells_summary"] | {"roi": counts}
        report = finished | {"cells_summary": summary}
        with suppress(StoreError), replacing(self.folder / RUN_JSON) as target:
            write_run_json(target, report)  # or the caller alone learns of it
        _LOG.info("%s: regions have new names", self.slide.path)
        return report

    def _done_already(self, finished: dict[str, Any]) -> RunResult:
        _LOG.info("%s: done already, see %s", self.slide.path, self.folder)
        return RunResult(self.folder, finished, was_done=True)

    def _same_job(self, finished: dict[str, Any]) -> Job:
        """Prepare what the folder's finished run did; refuse if it did something else."""
        identity = finished["provenance"]["identity"]
        job = self._prepare(identity)
        wanted = job.identity | _engine_wanted(self.options)
        check_same_run(
            {key: identity.get(key) for key in wanted}, wanted, self.folder, "a finished run"
        )
        damaged = finished["input"].get("damaged_tiles", {"count": 0})["count"]
        _check_damage(damaged, self.options, self.folder)
        return job

    def _missing(self, finished: dict[str, Any], job: Job) -> list[Output] | None:
        """Return what is wanted, or was made, and is not there; None if the run is of no use."""
        from cellseg.runtime.cells.summary import counts_regions_of

        lost = lost_files(self.folder, finished)
        wanted = outputs_for({*self.options.write, *outputs_of(lost)}, job)
        if not counts_regions_of(finished.get("cells_summary"), job):
            _LOG.info("%s: regions are other ones than those that were counted", self.slide.path)
            return None
        if lost:
            names = ", ".join(lost)
            _LOG.info("%s: gone or changed since, and made again: %s", self.slide.path, names)
        return missing_outputs(self.folder, finished, wanted.values(), self.options)

    def _prepare(self, earlier: Mapping[str, Any] | None) -> Job:
        self._tell("tissue")
        tile_px = None if earlier is None else earlier["tile_px"]
        job = prepare(self.slide, self.bundle, self.options, tile_px)
        if (channel := job.seen.channel) is not None:
            _LOG.info("%s: %s", self.slide.path, painted_note(channel))
        is_settled = tile_px is not None or self.options.tile_px is not None
        if is_settled or self.open_engine is not None:
            return job
        return with_tile(
            job, self.options, tile_for(job, self.options, self._usage(job, self.options))
        )

    def _run(self, job: Job, finished: dict[str, Any] | None) -> RunResult:
        earlier = None if finished is None else finished["provenance"]["identity"]
        if self.options.restart or earlier is None:
            earlier = stored_identity(self.folder)
        options = _as_before(self.options, earlier)
        usage = self._usage(job, options)
        options = replace(options, tiles_at_once=most_at_once(job, options, usage))
        owed = self._owed(finished)
        outputs = outputs_for({*self.options.write, *owed}, job)
        job = replace(job, planes=planes_for(outputs.values(), job))
        before_bytes = resident_bytes()
        with self._warmed(job), self._opened_engine(options, job.plan.tile_hw) as engine:
            planned = replace(self.options, write=tuple(outputs))
            memory = self._plan_memory(job, engine, planned, usage, before_bytes)
            with closing(ResultStore(self.folder)) as store:
                store.begin(identity := job.identity | engine_identity(engine), owed)
                _LOG.debug("the result depends on %s", _listed(identity))
                _check_damage(len(store.damaged()), self.options, self.folder)
                forget_run(self.folder)
                # Within a budget, cells wait until the engine's memory is free.
                feed = self.options.simplify_px if self.options.max_ram_bytes is None else None
                session = TileSession(job, engine, store, self.started_s, feed)
                self._run_tiles(job, session, memory)
                if not self._keeps_engine:
                    engine.close()  # the writers need memory, too
                report = write_results(
                    self.folder, job, engine, store, session, self.options, outputs, self._tell
                )
                store.remove()
        _LOG.debug("busy seconds: %s", _listed(report["stages_s"]))
        _LOG.debug("peak of memory: %s MB", report["peak_rss_mb"])
        _LOG.info("%s: done, see %s", self.slide.path, self.folder)
        return RunResult(self.folder, report)

    def _warmed(self, job: Job) -> AbstractContextManager[None]:
        """Load kernels beside the engine; with a budget its own memory alone is to be seen."""
        return warming(job) if self.options.max_ram_bytes is None else nullcontext()

    @property
    def _keeps_engine(self) -> bool:
        """Whether the engine stays open for the next slide."""
        return self.engines is not None and self.options.max_ram_bytes is None

    @contextmanager
    def _opened_engine(self, options: InferOptions, tile_hw: tuple[int, int]) -> Iterator[Engine]:
        if self._keeps_engine:
            assert self.engines is not None
            with self.engines.lend(self.bundle, options, tile_hw) as engine:
                yield engine
            return
        open_engine = self.open_engine or open_engine_for
        with closing(open_engine(self.bundle, options, tile_hw)) as engine:
            yield engine

    def _usage(self, job: Job, options: InferOptions) -> EngineUsage:
        if self.open_engine is not None:  # not one of ours, perhaps
            return expected_usage(options.engine)
        return usage_for(job, options)

    def _plan_memory(
        self,
        job: Job,
        engine: Engine,
        options: InferOptions,
        usage: EngineUsage,
        before_bytes: int | None,
    ) -> MemoryPlan:
        """Plan threads and queues; under a budget, first by what is expected, then as measured."""
        if options.max_ram_bytes is None:  # which engine it would be was not known before
            expected = expected_usage(engine.name)
            return memory_for(job, engine, options, usable_cores(), expected)
        plan = partial(memory_for, job, engine, options, usable_cores(), usage)
        memory = plan()
        taken_bytes = try_engine(engine, before_bytes)
        if taken_bytes > memory.cost.engine_bytes:
            _LOG.info("the engine takes %d MiB, more than was expected", taken_bytes >> 20)
        return plan(taken_bytes)

    def _owed(self, finished: dict[str, Any] | None) -> tuple[str, ...]:
        """Name what the folder had before: asking for one more file must not take another away."""
        if self.options.restart:
            return ()
        return outputs_of(finished["outputs"]) if finished else stored_owed(self.folder)

    def _run_tiles(self, job: Job, session: TileSession, memory: MemoryPlan) -> None:
        _set_cache(self.slide, memory.cache_bytes)
        _log_start(job, session, memory)
        try:
            session.run(memory, self.notify)
            _set_cache(self.slide, MIN_CACHE_BYTES)  # the writers have caches of their own
        except BaseException as error:
            kept = session.progress()
            _LOG.warning(
                "%s: stopped after %d of %d tiles (%s); the same command goes on from there",
                *(self.slide.path, kept.tiles_done, kept.tiles_total, type(error).__name__),
            )
            raise

    def _tell(self, phase: Phase, done: Progress | None = None) -> None:
        if self.notify is not None:
            blank = Progress(phase, 0, 0, 0, 0.0, None, None, None, None, None)
            self.notify(blank if done is None else replace(done, phase=phase))


def engine_identity(engine: Engine) -> dict[str, Any]:
    """Return what a result depends on besides the job: who computed it."""
    return {
        "cellseg": cellseg.__version__,
        "engine": engine.name,
        "precision": engine.precision,
        "device": engine.device,
        "engine_version": installed_version(engine.name),
    }


def _engine_wanted(options: InferOptions) -> dict[str, Any]:
    wanted = {"engine": options.engine, "precision": options.precision}
    return {key: value for key, value in wanted.items() if value != "auto"}


def _as_before(options: InferOptions, identity: Mapping[str, Any] | None) -> InferOptions:
    """Let ``auto`` be what the earlier run took, whatever is fastest today."""
    if identity is None:
        return options
    engine = identity["engine"] if options.engine == "auto" else options.engine
    precision = identity["precision"] if options.precision == "auto" else options.precision
    return replace(options, engine=engine, precision=precision)


def _check_damage(count: int, options: InferOptions, folder: Path) -> None:
    """Refuse to pass off as whole what damaged tiles went into.

    Without any, what was done under one choice is what the other would have done.
    """
    if count and options.on_error == "stop":
        raise StoreError(
            "The folder holds a run in which damaged tiles were taken for background. "
            f"Received: folder={folder}, damaged tiles={count}, on_error=stop.",
            hint="Go on with --on-error skip, or start over with --restart.",
        )


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)


def _set_cache(slide: Slide, limit_bytes: int) -> None:
    source = source_of(slide)
    if source is not None:
        source.cache.resize(limit_bytes)


def _log_start(job: Job, session: TileSession, memory: MemoryPlan) -> None:
    skipped = len(job.plan) - len(job.todo)
    _LOG.info(
        "%s: %d tiles of %d px, %d without tissue (%s ground), halo %d px",
        *(job.slide.path, len(job.plan), max(job.plan.tile_hw), skipped, job.mask.ground),
        job.plan.y.halo_px,
    )
    _LOG.info(
        "%d readers, %d tiles ready, about %d MiB",
        *(memory.workers, memory.batch, memory.total_bytes >> 20),
    )
    if session.resumed:
        _LOG.info(
            "resuming: %d of %d tiles are done already, %d left",
            *(session.resumed, len(job.todo), len(job.todo) - session.resumed),
        )
