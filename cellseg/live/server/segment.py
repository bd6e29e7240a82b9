"""``POST /segment``: an image in, its segmentation out."""

from __future__ import annotations

import asyncio
import io
import json
import math
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from aiohttp import web

from cellseg.errors import CellsegError
from cellseg.live.server.guard import HttpError
from cellseg.live.server.painter import encode_png
from cellseg.runtime.bundle import Bundle
from cellseg.runtime.segmenter import Segmenter, infer_options
from cellseg.runtime.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from numpy.typing import NDArray

    from cellseg.runtime.job import OpenEngine
    from cellseg.runtime.segmenter import Segmentation

__all__ = ["FORMATS", "MAX_BODY_BYTES", "ImageSegmenter", "add_segment_routes"]

FORMATS = {"json": "application/json", "png": "image/png", "npz": "application/octet-stream"}
MAX_BODY_BYTES = 64 * 2**20
_MAX_PX = 64_000_000
_MAX_WAITING = 8
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
        Further fields of `cellseg.runtime.options.InferOptions`.

    Attributes
    ----------
    answers : Counter
        How often each HTTP status was answered.

    Notes
    -----
    The engine is opened with the first image, not before.
    """

    def __init__(
        self, model: str | Path | Bundle, open_engine: OpenEngine | None = None, **options: Any
    ) -> None:
        self.bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        self._segmenter = Segmenter(self.bundle, infer_options(**options), open_engine)
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
        image, mpp = decode(data)
        found = self._segmenter(image, mpp if wish.mpp is None else wish.mpp)
        if wish.format == "png":
            return _png(found, wish.layer)
        if wish.format == "npz":
            return _npz(found)
        elapsed_ms = (time.perf_counter() - started_s) * 1e3
        card = self.bundle.manifest
        told = {"model": f"{card.name} {card.version}", "elapsed_ms": round(elapsed_ms, 3)}
        return json.dumps(told | summarize(found)).encode()


@dataclass(frozen=True)
class Wish:
    """What an answer is to be."""

    format: str
    """Key of ``FORMATS``."""

    layer: str
    """``classes`` or ``labels``; for PNG."""

    mpp: float | None
    """Microns a pixel, where the image does not say or is wrong."""

    @classmethod
    def from_request(cls, query: Mapping[str, str], accept: str) -> Wish:
        """Read the query; where it names no format, the header ``Accept``."""
        named = next((name for name, kind in FORMATS.items() if kind in accept), "json")
        return cls(
            _one_of("format", query.get("format", named), tuple(FORMATS)),
            _one_of("layer", query.get("layer", "classes"), ("classes", "labels")),
            _positive("mpp", query.get("mpp")),
        )


def add_segment_routes(app: web.Application, segmenter: ImageSegmenter) -> None:
    """Add ``POST /segment`` to a server, which closes the segmenter with itself."""

    async def close_with_app(_: web.Application) -> AsyncIterator[None]:
        yield
        segmenter.close()

    async def answer(request: web.Request) -> web.Response:
        wish = Wish.from_request(request.query, request.headers.get("Accept", ""))
        data = await request.read()
        if not data:
            raise HttpError(
                400,
                "The body must be an image file. Received: 0 bytes.",
                "curl --data-binary @image.png ...",
            )
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


def decode(data: bytes) -> tuple[NDArray[Any], float | None]:
    """Decode an image file of any kind that ``infer`` reads, and its microns a pixel."""
    with tempfile.TemporaryDirectory(prefix="cellseg-") as folder:
        path = Path(folder, "image")
        path.write_bytes(data)
        try:
            slide = open_slide(path)
            try:
                level = slide.levels[0]
                _check_size(level.height_px, level.width_px)
                pixels = slide.read_region(0, (0, 0), (level.height_px, level.width_px))
                return pixels, None if slide.mpp is None else math.sqrt(math.prod(slide.mpp))
            finally:
                slide.close()
        except HttpError:
            raise
        except CellsegError as error:  # the sender does not know our temporary path
            raise CellsegError(str(error).replace(str(path), "image"), error.hint) from error


def summarize(found: Segmentation) -> dict[str, Any]:
    """Return what a segmentation holds, as JSON values."""
    pixels = np.bincount(found.classes.ravel(), minlength=len(found.class_names))
    height, width = found.classes.shape
    return {
        "width_px": width,
        "height_px": height,
        "classes": {
            name: {"pixels": int(count), "fraction": count / found.classes.size}
            for name, count in zip(found.class_names, pixels.tolist(), strict=True)
        },
        "cells": found.cell_count,
    }


def _check_size(height: int, width: int) -> None:
    if height * width > _MAX_PX:
        raise HttpError(
            413,
            f"An image has at most {_MAX_PX // 10**6} megapixels. Received: {width}x{height} px.",
            "cellseg-cli infer takes slides of any size.",
        )


def _png(found: Segmentation, layer: str) -> bytes:
    if layer == "classes":
        return encode_png(found.classes)
    if found.labels is None:
        raise HttpError(
            400, "This model does not tell cells apart. Received: layer=labels.", "layer=classes"
        )
    if found.cell_count is not None and found.cell_count > np.iinfo(np.uint16).max:
        raise HttpError(
            400, "A PNG holds 65535 cells. Received: more.", "format=npz has no such limit."
        )
    return encode_png(found.labels.astype(np.uint16))


def _npz(found: Segmentation) -> bytes:
    arrays: dict[str, Any] = {"classes": found.classes, "class_names": np.array(found.class_names)}
    if found.labels is not None:
        arrays["labels"] = found.labels
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise HttpError(400, f"{name} is one of {', '.join(known)}. Received: {name}={value}.")
    return value


def _positive(name: str, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise HttpError(400, f"{name} is a positive number. Received: {name}={value}.")
    return number
