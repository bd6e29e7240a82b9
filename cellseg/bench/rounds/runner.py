"""Runs the matrix: scenario by scenario, contestants in turns, each round a process of its own.

The order of turns is reversed every other round, so that a machine that slowly heats up favours
nobody. What fails is kept with its reason and not asked again; Ctrl-C keeps the rounds that are
done.
"""

from __future__ import annotations

import math
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellseg.bench.meters.energy import find_meters, idle_watts
from cellseg.bench.meters.fingerprint import fingerprint
from cellseg.bench.meters.flops import gflop_per_mpx
from cellseg.bench.meters.gemm import measure_peaks
from cellseg.bench.record import Accuracy, ModelFacts, Report, Round
from cellseg.bench.reports.rows import Basis, doubts_of_run, make_row
from cellseg.bench.rounds.accuracy import AccuracyRequest, check_sets, stated_accuracy
from cellseg.bench.rounds.matrix import plan_matrix
from cellseg.bench.rounds.process import ProcessFailed, run_process
from cellseg.bench.rounds.task import Task
from cellseg.bench.rounds.tiles import made_slide
from cellseg.runtime.jobs.job import opened_slide
from cellseg.runtime.machine.facts import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cellseg.bench.options import BenchOptions
    from cellseg.bench.record import Contestant, Peak, Row
    from cellseg.bench.rounds.matrix import Matrix
    from cellseg.runtime.bundles.bundle import Bundle

    Notify = Callable[[int, int, str], None]

__all__ = ["WORKER", "run_bench"]

WORKER = (sys.executable, "-m", "cellseg.bench.rounds.worker")
_IDLE_S = 2.0


def run_bench(
    options: BenchOptions,
    notify: Notify | None = None,
    worker: Sequence[str] = WORKER,
) -> Report:
    """Measure the matrix.

    Parameters
    ----------
    options : BenchOptions
        What to measure.
    notify : callable, optional
        Called with steps done, steps in all, and what comes next.
    worker : sequence of str
        Command that runs one round; a `Task` is put behind it.

    Returns
    -------
    Report
        With status ``interrupted`` after Ctrl-C, if anything was measured by then.

    Raises
    ------
    BenchError
        If nothing can run here, or an accuracy set holds nothing.
    SlideError
        If the slide cannot be opened.
    KeyboardInterrupt
        Before anything was measured.
    """
    check_sets(options.accuracy_sets)
    _check_slide(options)
    with tempfile.TemporaryDirectory(prefix="cellseg-bench-") as folder:
        return _Bench(options, plan_matrix(options), tuple(worker), notify, Path(folder)).run()


@dataclass
class _Entry:
    """A contestant while it is measured."""

    contestant: Contestant
    failure: str | None = None
    unavailable: bool = False
    rounds: list[Round] = field(default_factory=list)
    first_use_s: dict[str, float] | None = None

    @property
    def is_running(self) -> bool:
        return self.failure is None


class _Bench:
    """One run; the steps in the order in which they are called."""

    def __init__(
        self,
        options: BenchOptions,
        matrix: Matrix,
        worker: tuple[str, ...],
        notify: Notify | None,
        folder: Path,
    ) -> None:
        self._options, self._matrix, self._worker = options, matrix, worker
        self._notify, self._folder = notify, folder
        self._peaks: dict[str, Peak | None] = {}
        self._entries = [self._entry(contestant) for contestant in matrix.contestants]
        self._accuracy: dict[tuple[str, str, str], list[Accuracy]] = {}
        self._slide = None if options.slide is None else str(options.slide)
        self._steps = 0
        self._started = datetime.now(timezone.utc)
        self._started_s = time.perf_counter()
        self._interrupted = False

    def run(self) -> Report:
        """Measure everything."""
        machine, idle = fingerprint(), idle_watts(find_meters(), _IDLE_S)
        gflop = {name: gflop_per_mpx(bundle) for name, bundle in self._matrix.bundles.items()}
        try:
            self._measure_peaks()
            self._measure_accuracy()
            for scenario in self._options.scenarios:
                self._run_scenario(scenario)
            self._measure_peaks()
        except KeyboardInterrupt:
            if not any(entry.rounds for entry in self._entries):
                raise
            self._interrupted = True
        return self._report(machine, idle, gflop)

    def _entry(self, contestant: Contestant) -> _Entry:
        obstacle = self._matrix.unavailable.get(contestant.key)
        return _Entry(contestant, failure=obstacle, unavailable=obstacle is not None)

    def _measure_peaks(self) -> None:
        """Measure before and after, and keep the better: what disturbs only slows down."""
        if not self._options.roofline:
            return
        self._tell("the machine's matrix products")
        for precision, peak in measure_peaks(usable_cores()).items():
            known = self._peaks.get(precision)
            if known is None or (peak is not None and peak.gflop_s > known.gflop_s):
                self._peaks[precision] = peak

    # --- accuracy ---

    def _measure_accuracy(self) -> None:
        for entry in self._entries:
            who = entry.contestant
            variant = (who.model, who.engine, who.precision)
            if entry.is_running and variant not in self._accuracy:
                self._accuracy[variant] = self._accuracy_of(who)

    def _accuracy_of(self, who: Contestant) -> list[Accuracy]:
        """Score a variant; what cannot be scored has what the bundle states."""
        bundle = self._matrix.bundles[who.model]
        stated = stated_accuracy(bundle, who.engine, who.precision)
        if not self._options.accuracy_sets:
            return stated
        self._tell(f"accuracy of {who.model} {who.engine} {who.precision}")
        request = AccuracyRequest(
            model_path=self._matrix.paths[who.model],
            engine=who.engine,
            precision=who.precision,
            threads=None,
            sets={name: str(path) for name, path in self._options.accuracy_sets.items()},
        )
        command = [sys.executable, "-m", "cellseg.bench.rounds.accuracy", request.model_dump_json()]
        try:
            said = run_process(command, self._options.timeout_s).said
        except ProcessFailed as error:
            self._fail(lambda c: (c.model, c.engine, c.precision) == (
                who.model, who.engine, who.precision), f"accuracy: {error}")  # fmt: skip
            return stated
        return [Accuracy.model_validate(item) for item in said["accuracy"]]

    def _fail(self, chosen: Callable[[Contestant], bool], why: str) -> None:
        for entry in self._entries:
            if chosen(entry.contestant) and entry.is_running:
                entry.failure = why

    # --- rounds ---

    def _run_scenario(self, scenario: str) -> None:
        entries = [entry for entry in self._entries if entry.contestant.scenario == scenario]
        if scenario == "slide" and self._slide is None and entries:
            self._made = str(made_slide(self._folder))
        if scenario == "cold":
            for entry in entries:
                self._first_use(entry)
        for turn in range(self._options.rounds):
            for place, entry in enumerate(entries if turn % 2 == 0 else reversed(entries)):
                self._run_round(entry, turn, place)

    def _run_round(self, entry: _Entry, turn: int, place: int) -> None:
        self._tell(f"{entry.contestant.key}, round {turn + 1} of {self._options.rounds}")
        self._steps += 1
        if not entry.is_running:
            return
        try:
            entry.rounds.append(self._round(entry.contestant, turn, place, {}))
        except ProcessFailed as error:
            entry.failure = f"round {turn + 1}: {error}"

    def _first_use(self, entry: _Entry) -> None:
        """Start once with empty caches: kernels are compiled, engines built."""
        if not entry.is_running:
            return
        with tempfile.TemporaryDirectory(dir=self._folder) as cache:
            empty = {"CELLSEG_CACHE": cache, "NUMBA_CACHE_DIR": cache}
            try:
                first = self._round(entry.contestant, 0, 0, empty)
            except ProcessFailed as error:
                entry.failure = f"first use: {error}"
                return
        entry.first_use_s = {"wall": first.samples_ms[0] / 1e3, **first.parts_s}

    def _round(self, who: Contestant, turn: int, place: int, environment: dict[str, str]) -> Round:
        task = self._task(who, turn)
        command = [*self._worker, task.model_dump_json()]
        finish = run_process(command, self._options.timeout_s, environment)
        found = Round.model_validate(finish.said)
        if who.scenario == "cold":  # from the start of the process, as a user waits for it
            found = found.model_copy(update={"samples_ms": (1e3 * finish.wall_s,)})
        return found.model_copy(update={"place": place})

    def _task(self, who: Contestant, turn: int) -> Task:
        options = self._options
        whole = who.scenario == "slide"
        samples = 1 if whole else math.ceil(options.min_samples / options.rounds)
        slide = self._slide
        if whole and slide is None:
            slide = self._made
        return Task(
            contestant=who,
            model_path=self._matrix.paths[who.model],
            slide=slide,
            mpp=options.mpp,
            turn=turn,
            seconds=options.min_duration_s / options.rounds,
            samples=samples,
            fps=options.fps,
            frame_wh=options.frame_wh,
        )

    # --- the report ---

    def _report(
        self, machine: dict[str, Any], idle: dict[str, float], gflop: dict[str, float | None]
    ) -> Report:
        rows = tuple(self._rows(idle, gflop))
        reasons = doubts_of_run(rows)
        return Report(
            status="interrupted" if self._interrupted else "done",
            valid=not reasons,
            invalid_reasons=tuple(reasons),
            started=self._started.isoformat(timespec="seconds"),
            wall_s=time.perf_counter() - self._started_s,
            command=shlex.join(["cellseg-cli", *sys.argv[1:]]),
            settings=_settings(self._options),
            machine=machine,
            models={name: _model_facts(b, gflop[name]) for name, b in self._matrix.bundles.items()},
            peaks=self._peaks,
            idle_w=idle,
            rows=rows,
        )

    def _rows(self, idle: dict[str, float], gflop: dict[str, float | None]) -> Iterator[Row]:
        for entry in self._entries:
            who = entry.contestant
            basis = Basis(
                gflop_per_mpx=gflop[who.model],
                peak=self._peaks.get(who.precision),
                idle_w=idle,
                accuracy=tuple(self._accuracy.get((who.model, who.engine, who.precision), ())),
            )
            is_short = self._interrupted and len(entry.rounds) < self._options.rounds
            status = "interrupted" if is_short else "done"
            if entry.failure is not None:
                status = "unavailable" if entry.unavailable else "failed"
            row = make_row(who, status, entry.rounds, basis)
            extra = {"failure": entry.failure, "first_use_s": entry.first_use_s}
            yield row.model_copy(update=extra)

    def _tell(self, what: str) -> None:
        if self._notify is not None:
            self._notify(self._steps, len(self._entries) * self._options.rounds, what)


def _check_slide(options: BenchOptions) -> None:
    """Open the slide once, so that a wrong one is refused before anything is timed."""
    if options.slide is not None:
        with opened_slide(options.slide, options.mpp):
            pass


def _settings(options: BenchOptions) -> dict[str, Any]:
    """Return the options as JSON values; paths lose their folders, which are nobody's business."""
    return {
        "min_duration_s": options.min_duration_s,
        "min_samples": options.min_samples,
        "rounds": options.rounds,
        "fps": options.fps,
        "frame_wh": list(options.frame_wh),
        "slide": "made" if options.slide is None else options.slide.name,
        "accuracy_sets": {name: path.name for name, path in options.accuracy_sets.items()},
    }


def _model_facts(bundle: Bundle, gflop: float | None) -> ModelFacts:
    card = bundle.manifest
    return ModelFacts(
        name=card.name,
        version=card.version,
        sha256=bundle.sha256,
        variants={variant.file: variant.sha256 for variant in bundle.variants},
        mpp=card.mpp,
        halo_px=card.halo_px,
        gflop_per_mpx=gflop,
    )
