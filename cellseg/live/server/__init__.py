"""The local server: a page that shows a running session, metrics, and ``POST /segment``.

At 127.0.0.1 only, behind a token, in a thread of its own. Needs aiohttp (the ``live`` extra).
"""

from __future__ import annotations

from cellseg.live.server.local import DEFAULT_PORT, LocalServer
from cellseg.live.server.segment import ImageSegmenter
from cellseg.live.server.token import load_token

__all__ = ["DEFAULT_PORT", "ImageSegmenter", "LocalServer", "load_token"]
