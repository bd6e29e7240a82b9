"""``cellseg-cli live``."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import reports_errors, show_logs
from cellseg.commands.live_page import Page, PagePort, local_page

if TYPE_CHECKING:
    from cellseg.live.run import LiveRun


__all__ = ["live"]

_SLIDE, _STREAM = "A slide played as a camera", "The stream"
_REFRESH_S = 0.25


def parse_frame_size(text: str) -> tuple[int, int]:
    """Return height and width of ``SIDE`` or ``WIDTHxHEIGHT``.

    Examples
    --------
    >>> parse_frame_size("640x480"), parse_frame_size("512")
    ((480, 640), (512, 512))
    """
    found = re.fullmatch(r"([1-9][0-9]*)(?:x([1-9][0-9]*))?", text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"a frame size looks like 1024 or 640x480. Received: {text!r}.")
    return int(found[2] or found[1]), int(found[1])


@reports_errors
def live(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="opencv:0, opencv:rtsp://…, video:FILE, mm:FILE.cfg, folder:DIR, slide:FILE, "
            "recording:DIR or ring:NAME.",
        ),
    ],
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="FPS",
            min=0.001,
            help="Frames a second; by default the source's own, and a slide as fast as it goes.",
            rich_help_panel=_STREAM,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            min=1,
            help="End after N frames; a slide's path is repeated for more than it has.",
            rich_help_panel=_STREAM,
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="drop-oldest|drop-newest|block",
            help="What becomes of frames that come too fast. By default cameras, videos and "
            "anything with --rate drop the oldest; folders, slides and recordings wait.",
            rich_help_panel=_STREAM,
        ),
    ] = None,
    queue: Annotated[
        int,
        typer.Option(
            "--queue", metavar="N", min=1, help="Frames that may wait.", rich_help_panel=_STREAM
        ),
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Results go to FOLDER/<name of source>/."
        ),
    ] = None,
    record: Annotated[
        bool,
        typer.Option("--record", help="Keep frames, masks and events; in cellseg-out without -o."),
    ] = False,
    rules: Annotated[
        Path | None,
        typer.Option("--rules", metavar="FILE.toml", help="Events to watch for; see docs/live.md."),
    ] = None,
    frame_size: Annotated[
        str,
        typer.Option(
            "--frame-size",
            metavar="PX|WxH",
            help="Size of a frame in full-resolution pixels.",
            rich_help_panel=_SLIDE,
        ),
    ] = "1024",
    overlap: Annotated[
        float,
        typer.Option(
            "--overlap",
            metavar="0..0.9",
            help="Part of a frame that its neighbour shows too.",
            rich_help_panel=_SLIDE,
        ),
    ] = 0.1,
    jitter: Annotated[
        float,
        typer.Option(
            "--jitter",
            metavar="PX",
            help="How far the stage misses, at most.",
            rich_help_panel=_SLIDE,
        ),
    ] = 0.0,
    defocus: Annotated[
        float,
        typer.Option(
            "--defocus",
            metavar="PX",
            help="Largest blur of a frame, sigma.",
            rich_help_panel=_SLIDE,
        ),
    ] = 0.0,
    lost: Annotated[
        float,
        typer.Option(
            "--lost",
            metavar="0..1",
            help="Part of the frames that never arrive.",
            rich_help_panel=_SLIDE,
        ),
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option("--seed", help="Of all that is random.", rich_help_panel=_SLIDE),
    ] = 0,
    model: opt.Model = "nuclei",
    mpp: opt.Mpp = None,
    threshold: opt.Threshold = None,
    engine: opt.Engine = "auto",
    precision: opt.Precision = "auto",
    tile_px: opt.TilePx = None,
    threads: opt.Threads = None,
    mosaic: Annotated[
        bool,
        typer.Option(
            "--mosaic/--no-mosaic",
            help="With -o, put frames with stage positions together and segment the whole.",
        ),
    ] = True,
    headless: Annotated[
        bool, typer.Option("--headless", help="No dashboard, and no local page without --page.")
    ] = False,
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
    from cellseg.live.run import LiveOptions, LiveRun
    from cellseg.live.sources.slide_camera import SlideCameraOptions
    from cellseg.live.sources.table import SourceOptions, is_camera, open_source

    show_logs(verbose)
    frame_hw = parse_frame_size(frame_size)
    is_page_wanted = False if headless and page is None else page
    played = SlideCameraOptions(frame_hw, overlap, jitter, defocus, lost, rate, frames, seed)
    opened = open_source(source, SourceOptions(rate, mpp, played))
    segmenting = {
        "threshold": threshold,
        "engine": engine,
        "precision": precision,
        "tile_px": tile_px,
        "threads": threads,
    }
    try:
        how = LiveOptions(frames, policy, queue, out, record, rules, mosaic)
        run = LiveRun(opened, is_camera(source, rate), how, model, **segmenting)
    except BaseException:
        opened.close()
        raise
    shown = local_page(run, is_page_wanted, port, model, **segmenting)
    closing = _run(run, source, headless, shown)
    _print_closing(closing, as_json)


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
