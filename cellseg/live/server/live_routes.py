"""The page and what it asks for: pictures and numbers over a WebSocket, start, stop, snapshot."""

from __future__ import annotations

import asyncio
import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMsgType, web

from cellseg.errors import CellsegError
from cellseg.live.painter import encode_png, parse_layer
from cellseg.live.server.guard import HttpError
from cellseg.live.server.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cellseg.live.mosaic.preview import MosaicPreview
    from cellseg.live.painter import Layer
    from cellseg.live.server.watcher import Picture, Watched

__all__ = ["WATCHER", "add_live_routes"]

WATCHER = web.AppKey("watcher", Watcher)
_SOCKETS = web.AppKey("sockets", set[web.WebSocketResponse])
_STATIC = Path(__file__).with_name("static")
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEARTBEAT_S = 10.0
_SHORTEST_S = 1 / 20
_LONGEST_S = 0.5


def add_live_routes(
    app: web.Application, session: Watched, scan: MosaicPreview | None = None
) -> None:
    """Add the page of a session, and of a scan's mosaic, to a server."""

    async def watch(app: web.Application) -> AsyncIterator[None]:
        app[WATCHER], app[_SOCKETS] = Watcher(session, scan), set()
        yield
        await app[WATCHER].close()

    app.cleanup_ctx.append(watch)
    app.on_shutdown.append(_close_sockets)
    app.router.add_routes(
        [
            *(web.get(path, _file) for path in _FILES),
            web.get("/api/state", _state),
            web.post("/api/start", _start),
            web.post("/api/stop", _stop),
            web.get("/api/snapshot.png", _snapshot),
            web.get("/ws", _socket),
        ]
    )


async def _file(request: web.Request) -> web.Response:
    name, kind = _FILES[request.path]
    text = (_STATIC / name).read_text(encoding="utf-8")
    return web.Response(text=text, content_type=kind)


async def _state(request: web.Request) -> web.Response:
    return web.json_response(request.app[WATCHER].state())


async def _start(request: web.Request) -> web.Response:
    request.app[WATCHER].session.resume()
    return await _state(request)


async def _stop(request: web.Request) -> web.Response:
    request.app[WATCHER].session.pause()
    return await _state(request)


async def _snapshot(request: web.Request) -> web.Response:
    """Return the newest result at full size, without loss."""
    watcher = request.app[WATCHER]
    layer = parse_layer(request.query.get("layer", "overlay"))
    result = watcher.newest_result()
    if result is None:
        raise HttpError(404, "There is no result yet. Received: a wish for a snapshot.")

    if not watcher.shows(layer):
        raise HttpError(400, "There is no scan to show. Received: layer=scan.", "layer=overlay")

    def paint() -> bytes:
        return encode_png(watcher.paint(result, layer))

    png = await asyncio.get_running_loop().run_in_executor(None, paint)
    name = f"frame-{result.meta.frame_id}-{layer}.png"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(body=png, content_type="image/png", headers=headers)


async def _socket(request: web.Request) -> web.WebSocketResponse:
    """Answer each wish of the page with the newest picture, or with numbers alone.

    The page wishes again when it has shown what came: a slow one gets fewer pictures, none of them
    old.
    """
    socket = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=1024, compress=False)
    await socket.prepare(request)
    request.app[_SOCKETS].add(socket)
    try:
        with suppress(ConnectionResetError):  # the browser may go at any moment
            await _grant_wishes(socket, request.app[WATCHER])
    finally:
        request.app[_SOCKETS].discard(socket)
    return socket


async def _grant_wishes(socket: web.WebSocketResponse, watcher: Watcher) -> None:
    shown, is_first = None, True
    async for message in socket:
        layer = _wished_layer(message.data) if message.type == WSMsgType.TEXT else None
        if layer is None:
            await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"no such layer")
            return
        if not watcher.shows(layer):  # a page of another session, which was a scan
            layer = "overlay"
        _, picture = await asyncio.gather(
            asyncio.sleep(_SHORTEST_S), watcher.newer_picture(shown, layer, _LONGEST_S)
        )
        news = {"history": list(watcher.history) if is_first else [watcher.history[-1]]}
        await socket.send_bytes(pack(watcher.state() | news, picture))
        shown, is_first = picture or shown, False


def _wished_layer(text: str) -> Layer | None:
    try:
        return parse_layer(json.loads(text)["layer"])
    except (CellsegError, ValueError, KeyError, TypeError, RecursionError):
        return None


def pack(state: dict[str, Any], picture: Picture | None) -> bytes:
    """Put numbers and picture into one message, so that they cannot part.

    Returns
    -------
    bytes
        Length of the JSON (uint32, little-endian), the JSON, then a JPEG, if there is a new one.
    """
    shown = None if picture is None else {"frame_id": picture.frame_id, "number": picture.number}
    text = json.dumps(state | {"picture": shown}).encode()
    return struct.pack("<I", len(text)) + text + (b"" if picture is None else picture.jpeg)


async def _close_sockets(app: web.Application) -> None:
    sockets = app[_SOCKETS]
    for socket in tuple(sockets):
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops")
