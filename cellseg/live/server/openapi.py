"""The server in OpenAPI 3.1, so that clients in other languages need not be written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["openapi_document"]

_FILE = Path(__file__).with_name("static") / "openapi.json"
_SESSION_PATHS = ("/api/state", "/api/start", "/api/stop", "/api/snapshot.png")


def openapi_document(base_url: str, has_session: bool, has_segmenter: bool) -> dict[str, Any]:
    """Return the description of what a server answers.

    Parameters
    ----------
    base_url : str
        Where it is.
    has_session, has_segmenter : bool
        Whether a session is shown, and whether images may be posted.
    """
    from cellseg import __version__

    document: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    document["info"]["version"] = __version__
    document["servers"] = [{"url": base_url}]
    absent = () if has_session else _SESSION_PATHS
    for path in (*absent, *(() if has_segmenter else ("/segment",))):
        del document["paths"][path]
    return document
