"""What a terminal shows of a live session, and the lines it ends with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from cellseg.live.snapshot import LiveSnapshot

__all__ = ["LiveDisplay", "closing_text", "state_table"]

_QUIET_INTERVAL_S = 15.0


class LiveDisplay:
    """A dashboard on a terminal; elsewhere a plain line now and then, and nothing if headless.

    Parameters
    ----------
    console : Console
        Where it is drawn.
    title : str
        Name of the source.
    headless : bool
        Show nothing.
    """

    def __init__(self, console: Console, title: str, headless: bool) -> None:
        self._console, self._title, self._headless = console, title, headless
        is_drawn = console.is_terminal and not headless
        self._live = Live(console=console, auto_refresh=False) if is_drawn else None
        self._last_s = time.monotonic()

    def __enter__(self) -> LiveDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, state: LiveSnapshot) -> None:
        """Show a state of the session."""
        if self._live:
            self._live.update(state_table(self._title, state), refresh=True)
        elif not self._headless and time.monotonic() - self._last_s >= _QUIET_INTERVAL_S:
            self._last_s = time.monotonic()
            self._console.print(_plain(state), markup=False, highlight=False)


def state_table(title: str, state: LiveSnapshot) -> Table:
    """Return the dashboard: speed, latency, drops, counts."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right")
    table.add_column()
    counters = state.counters
    table.add_row("source", Text(f"{title}  {state.model}, {state.engine or 'opening engine'}"))
    table.add_row("frames", f"{counters.done} done of {counters.sent}, {state.fps:.1f} a second")
    table.add_row("latency", f"{_latency_text(state)}  [dim]exposure to result[/dim]")
    table.add_row("dropped", Text(_drop_text(state), style="yellow" if counters.dropped else ""))
    if state.intensities is not None and (colour := state.intensities.as_dict()["channel"]):
        table.add_row("seen", f"{colour}, as grey")
    last = state.last
    if last is not None:
        shown = f"{_count_text(last.counts)} in this frame, {_count_text(state.counts)} in all"
        table.add_row("cells", Text(shown))
        table.add_row("focus", f"{last.focus:.1f}")
    return table


def closing_text(closing: dict[str, Any]) -> str:
    """Return the last lines for people: what became of the frames, and how long it took."""
    latency = closing["latency_ms"]
    lines = [
        f"{closing['source']}: {closing['done']} of {closing['sent']} frames done, "
        f"{closing['dropped']} dropped, {closing['fps']:.1f} a second"
    ]
    if latency["p50"] is not None:
        values = " / ".join(f"{latency[name]:.1f}" for name in ("p50", "p95", "p99"))
        lines.append(f"  {'latency':<12}{values} ms (p50 / p95 / p99, exposure to result)")
    reasons = {name: n for name, n in closing["dropped_by_reason"].items() if n}
    if reasons:
        lines.append(f"  {'dropped':<12}{_count_text(reasons)}")
    lost = {name: n for name, n in closing["lost"].items() if n}
    if lost:
        lines.append(f"  {'lost':<12}{_count_text(lost)} (never came out of the source)")
    if closing["normalize"] is not None and (colour := closing["normalize"]["channel"]):
        lines.append(f"  {'seen':<12}{colour}, as grey: a stain painted in one colour")
    if closing["counts"]:
        lines.append(f"  {'cells':<12}{_count_text(closing['counts'])}")
    if closing["events"]:
        lines.append(f"  {'events':<12}{_count_text(closing['events'])}")
    lines += [f"  {'wrote':<12}{path}" for path in closing["outputs"]]
    return "\n".join(lines)


def _plain(state: LiveSnapshot) -> str:
    counters = state.counters
    return (
        f"{counters.done} of {counters.sent} frames done, {state.fps:.1f} a second, "
        f"{_latency_text(state)}, dropped: {_drop_text(state)}"
    )


def _latency_text(state: LiveSnapshot) -> str:
    found = state.latency
    if found.p50 is None or found.p95 is None or found.p99 is None:
        return "no result yet"
    return f"p50 {found.p50:.1f}  p95 {found.p95:.1f}  p99 {found.p99:.1f} ms"


def _drop_text(state: LiveSnapshot) -> str:
    by_reason = state.counters.dropped_by_reason
    reasons = {reason.value: count for reason, count in by_reason.items() if count}
    return f"{state.counters.dropped}" + (f" ({_count_text(reasons)})" if reasons else "")


def _count_text(counts: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
