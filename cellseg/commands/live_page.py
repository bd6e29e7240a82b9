"""The local page of ``cellseg-cli live``: whether there is one, and where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellseg.commands.common import needs_extra
from cellseg.commands.serve import PORT
from cellseg.errors import CellsegError

if TYPE_CHECKING:
    from cellseg.live.run import LiveRun
    from cellseg.live.server import LocalServer

__all__ = ["Page", "PagePort", "local_page"]

_PANEL = "The local page"
Page = Annotated[
    bool | None,
    typer.Option(
        "--page/--no-page",
        help="Show the stream at 127.0.0.1, behind a token; by default unless --headless.",
        rich_help_panel=_PANEL,
    ),
]
PagePort = Annotated[
    int | None,
    typer.Option(
        "--port",
        metavar="N",
        min=0,
        max=65535,
        help=f"TCP port of the page; by default {PORT}, or a free one where that is taken.",
        rich_help_panel=_PANEL,
    ),
]


@contextmanager
def local_page(
    run: LiveRun, is_wanted: bool | None, port: int | None, model: Any, **segmenting: Any
) -> Iterator[None]:
    """Show a run on a page while the block runs; the address goes to stderr.

    Parameters
    ----------
    run : LiveRun
        What is shown: its session, and its scan.
    is_wanted : bool or None
        None: only if that works here.
    port : int or None
        None: the usual one, or a free one.
    model, **segmenting
        For ``POST /segment``, as for `ImageSegmenter`.
    """
    server = None
    if is_wanted is not False:
        try:
            server = _started(run, port, model, **segmenting)
        except CellsegError as error:
            if is_wanted:
                raise
            typer.echo(f"no page: {error} hint: {error.hint}", err=True)
    if server is None:
        yield
        return
    typer.echo(f"page: {server.url}", err=True)
    try:
        yield
    finally:
        server.stop()


def _started(run: LiveRun, port: int | None, model: Any, **segmenting: Any) -> LocalServer:
    with needs_extra("live"):
        from cellseg.live.server import ImageSegmenter, LocalServer

    segmenter = ImageSegmenter(model, **segmenting)
    ports = (PORT, 0) if port is None else (port,)
    for each in ports:
        server = LocalServer(run.session, segmenter, port=each, scan=run.preview)
        try:
            server.start()
        except CellsegError:
            if each == ports[-1]:
                segmenter.close()
                raise
        else:
            return server
    raise AssertionError("there is a port to try")
