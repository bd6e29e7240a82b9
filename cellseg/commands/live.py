"""``cellseg-cli live``."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

import typer

from cellseg.commands import live_options as own
from cellseg.commands import options as opt
from cellseg.commands.common import reports_errors, show_logs
from cellseg.commands.live_page import Page, PagePort, local_page

if TYPE_CHECKING:
    from cellseg.live.run import LiveOptions, LiveRun
    from cellseg.live.sources.table import SourceOptions


__all__ = ["live"]

_REFRESH_S = 0.25


@reports_errors
def live(
    source: own.SourceName,
    rate: own.Rate = None,
    frames: own.Frames = None,
    policy: own.Policy = None,
    queue: own.Queue = 1,
    out: own.LiveOut = None,
    record: own.Record = False,
    rules: own.Rules = None,
    frame_size: own.FrameSize = "1024",
    overlap: own.Overlap = 0.1,
    jitter: own.Jitter = 0.0,
    defocus: own.Defocus = 0.0,
    lost: own.Lost = 0.0,
    seed: own.Seed = 0,
    model: opt.Model = "nuclei",
    mpp: opt.Mpp = None,
    threshold: opt.Threshold = None,
    engine: opt.Engine = "auto",
    precision: opt.Precision = "auto",
    tile_px: opt.TilePx = None,
    threads: opt.Threads = None,
    mosaic: own.Mosaic = True,
    headless: own.Headless = False,
    page: Page = None,
    port: PagePort = None,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
) -> None:
    """Segment the frames of a camera, a video, a folder, or a slide played as a camera.

    Runs until the source ends, --frames are done, or Ctrl-C; then says what became of the frames.
    With --json that is one JSON object on one line: sent, done, dropped, latency_ms, counts, ...

    Examples
    --------
      cellseg-cli live opencv:0
      cellseg-cli live slide:slide.svs --rate 5 --overlap 0.1 --jitter 8
      cellseg-cli live folder:incoming --record -o results
      cellseg-cli live video:film.mp4 --frames 100 --headless --json
      cellseg-cli live ring:scope --headless --page --port 8765
      cellseg-cli live recording:results/incoming -o again --model other
    """
    from cellseg.live.run import LiveOptions
    from cellseg.live.sources.slide_camera import SlideCameraOptions
    from cellseg.live.sources.table import SourceOptions

    show_logs(verbose)
    frame_hw = own.parse_frame_size(frame_size)
    played = SlideCameraOptions(frame_hw, overlap, jitter, defocus, lost, rate, frames, seed)
    how = LiveOptions(frames, policy, queue, out, record, rules, mosaic)
    segmenting = {
        "model": model,
        "threshold": threshold,
        "engine": engine,
        "precision": precision,
        "tile_px": tile_px,
        "threads": threads,
    }
    run = _open_run(source, SourceOptions(rate, mpp, played), how, segmenting)
    is_page_wanted = False if headless and page is None else page
    shown = local_page(run, is_page_wanted, port, **segmenting)
    _print_closing(_run(run, source, headless, shown), as_json)


def _open_run(
    source: str, options: SourceOptions, how: LiveOptions, segmenting: dict[str, Any]
) -> LiveRun:
    """Open a source and what segments it; the source is let go where that fails."""
    from cellseg.live.run import LiveRun
    from cellseg.live.sources.table import is_camera, open_source

    opened = open_source(source, options)
    try:
        return LiveRun(opened, is_camera(source, options.rate), how, **segmenting)
    except BaseException:
        opened.close()
        raise


def _run(
    run: LiveRun, title: str, headless: bool, shown: AbstractContextManager[None]
) -> dict[str, Any]:
    """Run until the source ends or somebody stops it; both are a good end."""
    from cellseg.commands.live_display import LiveDisplay
    from cellseg.console import RunDisplay, stderr
    from cellseg.live.service import ServiceNotifier

    console = stderr()
    with run, _stopped_by_signals() as stopped, shown, ServiceNotifier(run.session):
        with LiveDisplay(console, title, headless) as display:
            run.start()
            while not run.wait(_REFRESH_S) and not stopped.is_set():
                display.show(run.session.snapshot())
        with RunDisplay(console, "mosaic") as progress:
            return run.finish(not stopped.is_set(), None if headless else progress)


def _print_closing(closing: dict[str, Any], as_json: bool) -> None:
    from cellseg.commands.live_display import closing_text

    typer.echo(json.dumps(closing) if as_json else closing_text(closing))


@contextmanager
def _stopped_by_signals() -> Iterator[Event]:
    """Let Ctrl-C and ``systemctl stop`` end a stream in order; a second one breaks off."""
    stopped = Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: Any) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    try:
        for number in before:
            signal.signal(number, stop)
    except ValueError:  # not in the main thread: nobody there is sent signals
        before = {}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
