"""The server itself: one thread, one event loop, one port at 127.0.0.1."""

from __future__ import annotations

import asyncio
import errno
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

from aiohttp import web

from cellseg.errors import CellsegError
from cellseg.live.server.guard import guard
from cellseg.live.server.live_routes import add_live_routes
from cellseg.live.server.metrics import CONTENT_TYPE, format_metrics
from cellseg.live.server.openapi import openapi_document
from cellseg.live.server.posted_image import MAX_BODY_BYTES
from cellseg.live.server.segment import add_segment_routes
from cellseg.live.server.token import load_token

if TYPE_CHECKING:
    from cellseg.live.mosaic.preview import MosaicPreview
    from cellseg.live.server.segment import ImageSegmenter
    from cellseg.live.server.watcher import Watched

__all__ = ["DEFAULT_PORT", "HOST", "LocalServer"]

HOST = "127.0.0.1"
DEFAULT_PORT = 8765


class LocalServer:
    """Serves a session's page, metrics and ``POST /segment`` on this machine.

    Parameters
    ----------
    session : Watched, optional
        A `cellseg.live.session.LiveSession` to show; it belongs to the caller.
    segmenter : ImageSegmenter, optional
        What answers ``POST /segment``; closed with the server.
    port : int
        TCP port; 0 takes a free one.
    scan : MosaicPreview, optional
        A scan's mosaic so far, to show beside the frames.
    token : str, optional
        What opens the page; by default the user's own (`load_token`).

    Raises
    ------
    CellsegError
        By `start`, if the port is taken, or it was started before.

    Notes
    -----
    A context manager, for once: what it closed stays closed. Nothing of it runs in the session's
    thread but the handing over of results.

    Examples
    --------
    >>> with LiveSession("nuclei") as session, LocalServer(session) as server:  # doctest: +SKIP
    ...     print(server.url)
    """

    def __init__(
        self,
        session: Watched | None = None,
        segmenter: ImageSegmenter | None = None,
        *,
        port: int = DEFAULT_PORT,
        scan: MosaicPreview | None = None,
        token: str | None = None,
    ) -> None:
        if not 0 <= port <= 65535:
            raise CellsegError(f"A port lies in 0..65535. Received: port={port}.")
        if token is not None and not token:
            raise CellsegError("A token must not be empty: anybody could ask. Received: token=''.")
        self._session, self._segmenter = session, segmenter
        self._scan, self.port = scan, port
        self.token = load_token() if token is None else token
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()

    @property
    def base_url(self) -> str:
        """Address without the token, for programs."""
        return f"http://{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """Address of the page, for a browser; whoever has it may use the server."""
        return f"{self.base_url}/?token={self.token}"

    def start(self) -> None:
        """Answer from now on."""
        if self._thread is not None:
            raise CellsegError(
                f"A server is started once. Received: start again, port={self.port}.",
                hint="Make another LocalServer.",
            )
        started: Future[int] = Future()
        self._thread = Thread(
            target=self._work, args=(started,), name="cellseg-server", daemon=True
        )
        self._thread.start()
        try:
            self.port = started.result()
        except OSError as error:
            self._thread.join()
            self._thread = None
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise CellsegError(
                f"The page needs a free port. Received: port={self.port}, {error.strerror}.",
                hint="Another session may be running. Choose a --port; 0 takes a free one.",
            ) from error

    def stop(self) -> None:
        """Close all connections and return when the thread is gone. May be called again."""
        if self._thread is None or self._loop is None:
            return
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _work(self, started: Future[int]) -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _serve(self, started: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, self.port)
            await site.start()
            started.set_result(runner.addresses[0][1])
            await self._stopped.wait()
        finally:
            await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[guard(self.token)], client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/openapi.json", self._openapi)
        if self._session is not None:
            add_live_routes(app, self._session, self._scan)
        if self._segmenter is not None:
            add_segment_routes(app, self._segmenter)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        state = None if self._session is None else self._session.snapshot().state
        return web.json_response({"status": "ok", "session": state})

    async def _metrics(self, _: web.Request) -> web.Response:
        seen = None if self._session is None else self._session.snapshot()
        answers = {} if self._segmenter is None else self._segmenter.answers
        text = format_metrics(seen, answers)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _openapi(self, _: web.Request) -> web.Response:
        has_session, has_segmenter = self._session is not None, self._segmenter is not None
        document: dict[str, Any] = openapi_document(self.base_url, has_session, has_segmenter)
        return web.json_response(document)
