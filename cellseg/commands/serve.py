"""``cellseg-cli serve``: ``POST /segment`` without a camera."""

from __future__ import annotations

import signal
from threading import Event
from typing import Annotated

import typer

from cellseg.commands import options as opt
from cellseg.commands.common import needs_extra, reports_errors, show_logs

__all__ = ["PORT", "Port", "serve"]

PORT = 8765
Port = Annotated[
    int,
    typer.Option(
        "--port", metavar="N", min=0, max=65535, help="TCP port at 127.0.0.1; 0 takes a free one."
    ),
]


@reports_errors
def serve(
    model: opt.Model = "nuclei",
    port: Port = PORT,
    engine: opt.Engine = "auto",
    precision: opt.Precision = "auto",
    threads: opt.Threads = None,
    tile_px: opt.TilePx = None,
    threshold: opt.Threshold = None,
    verbose: opt.Verbose = False,
) -> None:
    """Segment images that other programs post to this machine, until Ctrl-C.

    The address is printed to stdout. It answers this machine only, and only
    those who send the token that stands in it.

    Examples
    --------
      cellseg-cli serve
      curl --data-binary @field.png "http://127.0.0.1:8765/segment?token=TOKEN"
      curl --data-binary @field.png "http://.../segment?format=png&mpp=0.25&token=TOKEN"

    /openapi.json describes it, /metrics counts for Prometheus, /health needs no
    token. The token is the user's own and stays; CELLSEG_TOKEN sets another.
    """
    show_logs(verbose)
    with needs_extra("live"):
        from cellseg.live.server import ImageSegmenter, LocalServer

    segmenter = ImageSegmenter(
        model,
        engine=engine,
        precision=precision,
        threads=threads,
        tile_px=tile_px,
        threshold=threshold,
    )
    stopped = Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with LocalServer(None, segmenter, port=port) as server:
        typer.echo(f"{server.base_url}/segment?token={server.token}")
        try:
            while not stopped.wait(1.0):  # in steps, or Windows would not hear Ctrl-C
                pass
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
