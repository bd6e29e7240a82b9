"""Who may ask, what a browser may do with the answer, and what an error looks like."""

from __future__ import annotations

import hmac
import logging
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from cellseg.errors import CellsegError

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

__all__ = ["HttpError", "guard"]

_LOG = logging.getLogger(__name__)
_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_OPEN_PATHS = frozenset({"/health", "/page.js", "/page.css", "/icon.svg"})
"""What holds nothing that a stranger could use."""


class HttpError(CellsegError):
    """An answer that is not what was asked for.

    Parameters
    ----------
    status : int
        HTTP status.
    message : str
        The rule, then what was received.
    hint : str, optional
        How to mend it.
    """

    def __init__(self, status: int, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.status = status


def guard(token: str) -> Middleware:
    """Return what stands before every answer: host, origin and token are looked at.

    Notes
    -----
    The host's name is looked at because a page of a stranger may let its own name point to
    127.0.0.1 (DNS rebinding); the origin, because browsers let any page open a WebSocket.
    """

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _check(request, token)
            response = await handler(request)
        except web.HTTPException as error:  # no such path, wrong method, body too large
            response = _error(
                request,
                error.status,
                f"{error.reason}. Received: {request.method} {request.path}.",
                "/openapi.json lists what there is.",
            )
        except HttpError as error:
            response = _error(request, error.status, str(error), error.hint)
        except CellsegError as error:
            response = _error(request, 400, str(error), error.hint)
        except Exception:
            _LOG.exception("%s %s", request.method, request.path)
            response = _error(request, 500, "The server failed. Its log says how.", None)
        if not response.prepared:
            _add_headers(request, response)
        return response

    return guarded


def _check(request: web.Request, token: str) -> None:
    if not _is_local(request):
        raise HttpError(403, f"Only this machine may ask. Received: host={request.host}.")
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{request.host}":
        raise HttpError(403, f"Only the server's own page may ask. Received: origin={origin}.")
    if request.path in _OPEN_PATHS:
        return
    scheme, _, word = request.headers.get("Authorization", "").partition(" ")
    given = word if scheme.lower() == "bearer" else request.query.get("token", "")
    # A header may hold any bytes.
    if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode()):
        raise HttpError(
            403,
            f"A token is needed. Received: {'a wrong one' if given else 'none'}.",
            "Open the address that the server printed when it started, or send "
            "'Authorization: Bearer TOKEN'.",
        )


def _is_local(request: web.Request) -> bool:
    try:
        return urlsplit(f"//{request.host}").hostname in _LOCAL_NAMES
    except ValueError:  # such as an open bracket
        return False


def _error(request: web.Request, status: int, message: str, hint: str | None) -> web.Response:
    """Answer programs in JSON, and people, whose browsers ask for HTML, in words."""
    if "text/html" not in request.headers.get("Accept", ""):
        return web.json_response({"error": message, "hint": hint}, status=status)
    lines = [message, *([hint] if hint else [])]
    text = "".join(f"<p>{escape(line)}</p>" for line in lines)
    page = f"<!doctype html><html lang=en><title>cellseg: {status}</title>{text}</html>"
    return web.Response(text=page, content_type="text/html", status=status)


def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    # Not every browser counts the own WebSocket among 'self'.
    own_socket = f"ws://{request.host}" if _is_local(request) else ""
    response.headers.update(
        {
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
                f"connect-src 'self' {own_socket}; base-uri 'none'; form-action 'none'; "
                "frame-ancestors 'none'"
            ),
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
    )
