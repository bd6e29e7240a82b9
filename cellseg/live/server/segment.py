"""``POST /segment``: an image in, its segmentation out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from aiohttp import web

from cellseg.errors import CellsegError
from cellseg.live.frame_segmenter import check_request
from cellseg.live.server.guard import HttpError
from cellseg.live.server.posted_image import MAX_BODY_BYTES, decode
from cellseg.live.server.wish import FORMATS, Wish
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.segmenter import Segmenter, infer_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cellseg.runtime.run.engine_shelf import OpenEngine

__all__ = ["ImageSegmenter", "add_segment_routes"]

_MAX_WAITING = 8
_BODY_HINT = "curl --data-binary @image.png ..."
_BUSY_HINT = "Send the next image when the answer to the last one is there."


class ImageSegmenter:
    """One model for all who post images; one image at a time.

    Parameters
    ----------
    model : str, Path or Bundle
        Name of a shipped bundle, path of a ``.cellseg`` file, or one that is open.
    open_engine : callable, optional
        Opens an engine for a bundle, options and a tile size; for engines of your own.
    **options
        Further fields of `cellseg.runtime.jobs.options.InferOptions`.

    Attributes
    ----------
    answers : Counter
        How often each HTTP status was answered.

    Raises
    ------
    CellsegError
        If there is no such model, engine or precision, or the tile does not fit the model.

    Notes
    -----
    The engine is opened with the first image, not before.
    """

    def __init__(
        self, model: str | Path | Bundle, open_engine: OpenEngine | None = None, **options: Any
    ) -> None:
        self.bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        chosen = infer_options(**options)
        check_request(self.bundle, chosen, has_engine=open_engine is not None)
        self._segmenter, self._mpp = Segmenter(self.bundle, chosen, open_engine), chosen.mpp
        self._thread = ThreadPoolExecutor(1, "cellseg-segment")
        self._waiting = 0
        self.answers: Counter[int] = Counter()

    async def __call__(self, data: bytes, wish: Wish) -> bytes:
        """Segment the bytes of an image file.

        Raises
        ------
        HttpError
            If too many wait already, or the image is too large.
        CellsegError
            If it is no image.
        """
        if self._waiting >= _MAX_WAITING:
            raise HttpError(503, f"At most {_MAX_WAITING} images may wait.", _BUSY_HINT)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._answer, data, wish)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Release the engine; the image in work is finished first."""
        self._thread.shutdown(cancel_futures=True)
        self._segmenter.close()

    def _answer(self, data: bytes, wish: Wish) -> bytes:
        started_s = time.perf_counter()
        image, own_mpp = decode(data)
        known = (wish.mpp, self._mpp, own_mpp)
        mpp = next((size for size in known if size is not None), None)
        found = self._segmenter(image, mpp)
        elapsed_ms = round((time.perf_counter() - started_s) * 1e3, 3)
        card = self.bundle.manifest
        told = {"model": f"{card.name} {card.version}", "elapsed_ms": elapsed_ms}
        return wish.answer(found, mpp, told)


def add_segment_routes(app: web.Application, segmenter: ImageSegmenter) -> None:
    """Add ``POST /segment`` to a server, which closes the segmenter with itself."""

    async def close_with_app(_: web.Application) -> AsyncIterator[None]:
        yield
        segmenter.close()

    async def answer(request: web.Request) -> web.Response:
        wish = Wish.from_request(request.query, request.headers.get("Accept", ""))
        data = await _body(request)
        body = await segmenter(data, wish)
        return web.Response(body=body, content_type=FORMATS[wish.format])

    async def counted(request: web.Request) -> web.Response:
        status = 500
        try:
            response = await answer(request)
            status = response.status
            return response
        except (HttpError, web.HTTPException) as error:
            status = error.status
            raise
        except CellsegError:
            status = 400
            raise
        finally:
            segmenter.answers[status] += 1

    app.cleanup_ctx.append(close_with_app)
    app.router.add_post("/segment", counted)


async def _body(request: web.Request) -> bytes:
    """Return the bytes of the image file that a request brings."""
    if request.content_type.startswith("multipart/"):
        raise HttpError(
            400,
            f"The body must be an image file, no form around it. Received: {request.content_type}.",
            _BODY_HINT,
        )
    try:
        data = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise HttpError(
            413,
            f"A body has at most {MAX_BODY_BYTES // 2**20} MiB. Received: more.",
            "cellseg-cli infer takes files of any size.",
        ) from error
    except (web.RequestPayloadError, ConnectionError) as error:  # or the sender has gone
        raise HttpError(
            400, f"The body must come as its headers say. Received: {error}."
        ) from error
    if not data:
        raise HttpError(400, "The body must be an image file. Received: 0 bytes.", _BODY_HINT)
    return data
