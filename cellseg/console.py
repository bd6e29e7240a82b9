"""What people see of a run: a live line while it lasts, a few lines when it is done.

On a terminal progress is one live line; in a log file it is a plain line now and then.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from cellseg.runtime.batch import Outcome
    from cellseg.runtime.jobs.options import Progress
    from cellseg.runtime.report.facts import ClassFacts
    from cellseg.runtime.verification.report import VerifyReport, WayCheck

__all__ = [
    "BenchDisplay",
    "RunDisplay",
    "failure_summary",
    "format_seconds",
    "pace_text",
    "report_text",
    "show_logs",
    "stderr",
    "verify_text",
]

_PHASES = {
    "open": "opening",
    "tissue": "finding tissue",
    "tiles": "segmenting",
    "cells": "telling cells apart",
    "write": "writing files",
}
_QUIET_INTERVAL_S = 15.0
_NO_SEAMS = "none in the windows: each lies in one tile, and little was put to the test"


def show_logs(console: Console, verbose: bool) -> None:
    """Send the package's log records to the console, once."""
    logger = logging.getLogger("cellseg")
    for old in [each for each in logger.handlers if isinstance(each, _ConsoleHandler)]:
        logger.removeHandler(old)
    logger.addHandler(_ConsoleHandler(console))
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


class _ConsoleHandler(logging.Handler):
    """Prints above the live line instead of through it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        self._console.print(mark + self.format(record), markup=False, highlight=False)


Display = TypeVar("Display", bound="_LineDisplay")


class _LineDisplay:
    """One line on a terminal that is drawn anew; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = _live_line(console) if console.is_terminal else None
        self._task = self._live.add_task("", total=None, pace="") if self._live else None

    def __enter__(self: Display) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()


class RunDisplay(_LineDisplay):
    """Shows the state of one run; use it as a context and as the progress callback.

    Parameters
    ----------
    console : Console
        Where it is drawn; a terminal gets a live line, anything else a plain line now and then.
    title : str
        Name of the slide.
    """

    def __init__(self, console: Console, title: str) -> None:
        super().__init__(console)
        self._title = title
        self._last_s = time.monotonic()

    def __call__(self, state: Progress) -> None:
        """Show a state of the run."""
        if self._live and self._task is not None:
            self._live.update(
                self._task,
                description=_PHASES[state.phase],
                completed=state.tiles_done,
                total=state.tiles_total or None,
                pace=_pace_now(state),
            )
        elif time.monotonic() - self._last_s >= _QUIET_INTERVAL_S:
            self._last_s = time.monotonic()
            self._print_line(state)

    def _print_line(self, state: Progress) -> None:
        counted = "regions" if state.phase == "cells" else "tiles"
        done = f"{state.tiles_done}/{state.tiles_total} {counted}" if state.tiles_total else ""
        parts = [f"{self._title}: {_PHASES[state.phase]}", done, _pace_now(state)]
        self._console.print(", ".join(filter(None, parts)), markup=False, highlight=False)


def _pace_now(state: Progress) -> str:
    """Return the pace of tiles while they run: it says nothing about what comes after them."""
    return pace_text(state) if state.phase == "tiles" else ""


class BenchDisplay(_LineDisplay):
    """Shows which contestant of a benchmark runs, and how long the rest will take.

    Parameters
    ----------
    console : Console
        Where it is drawn; a terminal gets a live line, anything else a line a step.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._started_s = time.monotonic()

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show what comes next, after so many of all steps."""
        elapsed_s = time.monotonic() - self._started_s
        left = f"{format_seconds(elapsed_s / done * (total - done))} left" if done else ""
        if self._live and self._task is not None:
            self._live.update(self._task, description=what, completed=done, total=total, pace=left)
        else:
            line = ", ".join(filter(None, [f"{done}/{total}", what, left]))
            self._console.print(line, markup=False, highlight=False)


def pace_text(state: Progress) -> str:
    """Return speed, time left and the stage that holds the run back, as far as they are known.

    Examples
    --------
    >>> from cellseg.runtime.jobs.options import Progress
    >>> pace_text(Progress("tiles", 5, 9, 0, 2.0, 6.25, 1.5, 61.0, "infer", 0.934))
    '6.2 MP/s, 1.50 mm²/s, 1:01 left, infer-bound 93 %'
    """
    parts = []
    if state.throughput_mpx_s is not None:
        parts.append(f"{state.throughput_mpx_s:.1f} MP/s")
    if state.mm2_per_s is not None:
        parts.append(f"{state.mm2_per_s:.2f} mm²/s")
    if state.eta_s is not None:
        parts.append(f"{format_seconds(state.eta_s)} left")
    if state.bottleneck is not None and state.bottleneck_share is not None:
        parts.append(f"{state.bottleneck}-bound {state.bottleneck_share * 100:.0f} %")
    return ", ".join(parts)


def format_seconds(seconds: float) -> str:
    """Return a duration as ``m:ss`` or ``h:mm:ss``.

    Examples
    --------
    >>> format_seconds(59.6), format_seconds(3725)
    ('1:00', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def report_text(folder: Path, run: dict[str, Any]) -> str:
    """Return what a finished run found and where its files are.

    Parameters
    ----------
    folder : Path
        The run's folder.
    run : dict
        Content of ``run.json``.
    """
    from cellseg.runtime.report.facts import analysed_part, class_facts

    part = analysed_part(run)
    facts = [(item.name, _area_text(item, part)) for item in class_facts(run)]
    if run["cells"]:
        facts.append(("cells", ", ".join(f"{n} {name}" for name, n in run["cells"].items())))
    damaged = run["input"].get("damaged_tiles", {"count": 0})
    if damaged["count"]:
        facts.append(("damaged", _damage_text(damaged)))
    facts += [("wrote", str(folder / name)) for name in (*run["outputs"], "run.json")]
    width = max(12, *(len(name) + 2 for name, _ in facts))
    lines = [f"  {name:<{width}}{text}" for name, text in facts]
    return "\n".join([f"{run['input']['path']}: {_speed_text(run)}", *lines])


def failure_summary(outcomes: Sequence[Outcome]) -> str:
    """Return how many of several inputs are done, and which failed."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    head = f"{len(outcomes) - len(failed)} of {len(outcomes)} inputs done"
    return "\n".join([head, *(f"  failed: {outcome.input}" for outcome in failed)])


def verify_text(path: str, report: VerifyReport) -> str:
    """Return what was compared, how far it differs, and whether that is within bounds."""
    windows = len(report.checks) // max(1, len(report.ways))
    facts = (
        ("compared", f"{windows} windows, {report.pixels / 1e6:.2f} million pixels"),
        ("with", f"{report.engine} {report.precision}, tiles of {report.tile_px} px"),
        ("halo", f"{report.halo_px} px"),
        (
            "seams",
            f"{report.seams} between tiles lie in the windows" if report.seams else _NO_SEAMS,
        ),
        ("largest difference", f"{report.largest_difference:.2g}{_allowed(report.max_difference)}"),
        (
            "flipped pixels",
            f"{report.flipped_px}, {report.flipped_per_million:.2g} per million"
            f"{_allowed(report.max_flipped_per_million)}",
        ),
    )
    verdict = "no seams" if report.ok else "SEAMS"
    lines = [f"  {name:<20}{text}" for name, text in facts]
    head = f"  {'tiled against':<20}{'largest difference':<20}{'flipped pixels':<16}per million"
    return "\n".join([f"{path}: {verdict}", *lines, "", head, *map(_way_line, report.ways)])


def _way_line(way: WayCheck) -> str:
    note = "" if way.is_exact else "    (blended: not to be equal)"
    return (
        f"  {way.against:<20}{way.largest_difference:<20.2g}{way.flipped_px:<16}"
        f"{way.flipped_per_million:.2g}{note}"
    )


def _allowed(limit: float) -> str:
    return f" (allowed {limit:.2g})"


def stderr() -> Console:
    """Return a console on stderr as it is now."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def _speed_text(run: dict[str, Any]) -> str:
    plan, engine = run["plan"], run["engine"]
    wall_s = run["wall_s"]
    took = f"{wall_s:.1f} s" if wall_s < 60 else format_seconds(wall_s)
    parts = [f"{run['status']} in {took}"]
    if run["throughput_mpx_s"] is not None:
        parts.append(f"{run['throughput_mpx_s']:.1f} MP/s")
    parts.append(f"{engine['name']} {engine['precision']}")
    parts.append(f"{plan['tiles_total'] - plan['tiles_skipped']} of {plan['tiles_total']} tiles")
    return ", ".join(parts)


def _area_text(found: ClassFacts, part: str) -> str:
    mm2 = "" if found.area_mm2 is None else f", {found.area_mm2:.4g} mm²"
    return f"{found.area_share:.1%} of the {part}{mm2}"


def _damage_text(damaged: dict[str, Any]) -> str:
    count, first = damaged["count"], damaged["list"][0]
    tiles = "1 stored tile" if count == 1 else f"{count} stored tiles"
    where = f"level {first['level']}, row {first['row']}, column {first['column']}"
    return f"{tiles} taken for background: {where}{', …' if count > 1 else ''} (see run.json)"


def _live_line(console: Console) -> RichProgress:
    """Make a line whose bar takes what the words leave: on a narrow terminal it goes first."""
    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[pace]}", markup=False, table_column=Column(no_wrap=True)),
        console=console,
        transient=True,
        expand=True,
    )
