"""What a run shows while it lasts: a live line on a terminal, a line now and then in a log file.

Everything here goes to stderr; results are printed by ``cellseg.cli``.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from types import TracebackType

    from cellseg.runtime.options import Progress

__all__ = ["RunDisplay", "format_seconds", "pace_text", "show_logs"]

_PHASES = {
    "open": "opening",
    "tissue": "finding tissue",
    "tiles": "segmenting",
    "cells": "telling cells apart",
    "write": "writing files",
}
_QUIET_INTERVAL_S = 15.0


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


class RunDisplay:
    """Shows the state of one run; use it as a context and as the progress callback.

    Parameters
    ----------
    console : Console
        Where it is drawn; a terminal gets a live line, anything else a plain line now and then.
    title : str
        Name of the slide.
    """

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title = console, title
        self._live = _live_line(console) if console.is_terminal else None
        self._task = self._live.add_task("", total=None, pace="") if self._live else None
        self._last_s = time.monotonic()

    def __enter__(self) -> RunDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, state: Progress) -> None:
        """Show a state of the run."""
        if self._live and self._task is not None:
            self._live.update(
                self._task,
                description=f"{self._title}: {_PHASES[state.phase]}",
                completed=state.tiles_done,
                total=state.tiles_total or None,
                pace=pace_text(state),
            )
        elif time.monotonic() - self._last_s >= _QUIET_INTERVAL_S:
            self._last_s = time.monotonic()
            self._print_line(state)

    def _print_line(self, state: Progress) -> None:
        head = f"{self._title}: {_PHASES[state.phase]}, {state.tiles_done}/{state.tiles_total} tiles"
        self._console.print(f"{head}, {pace_text(state)}", markup=False, highlight=False)


def pace_text(state: Progress) -> str:
    """Return speed, time left and the stage that holds the run back, as far as they are known.

    Examples
    --------
    >>> from cellseg.runtime.options import Progress
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


def _live_line(console: Console) -> RichProgress:
    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
        console=console,
        transient=True,
    )
