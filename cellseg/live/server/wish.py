"""What the answer of ``POST /segment`` is to be, and the making of it."""

from __future__ import annotations

import difflib
import io
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.live.frame_cells import measure
from cellseg.live.painter import encode_png
from cellseg.live.server.guard import HttpError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellseg.runtime.segmenter import Segmentation

__all__ = ["FORMATS", "Wish"]

FORMATS = {"json": "application/json", "png": "image/png", "npz": "application/octet-stream"}
_KNOWN = ("format", "layer", "mpp", "token")


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
        _check_names(query)
        named = next((name for name, kind in FORMATS.items() if kind in accept), "json")
        return cls(
            _one_of("format", query.get("format", named), tuple(FORMATS)),
            _one_of("layer", query.get("layer", "classes"), ("classes", "labels")),
            _positive("mpp", query.get("mpp")),
        )

    def answer(self, found: Segmentation, mpp: float | None, told: Mapping[str, Any]) -> bytes:
        """Write a segmentation in the wished format.

        Parameters
        ----------
        found : Segmentation
            The answer.
        mpp : float or None
            Microns per pixel of its maps.
        told : mapping
            What JSON says besides.
        """
        if self.format == "png":
            return _png(found, self.layer)
        if self.format == "npz":
            return _npz(found)
        return json.dumps({**told, **_summary(found, mpp)}).encode()


def _summary(found: Segmentation, mpp: float | None) -> dict[str, Any]:
    pixels = np.bincount(found.classes.ravel(), minlength=len(found.class_names))
    height, width = found.classes.shape
    classes = {
        name: {"pixels": int(count), "fraction": int(count) / found.classes.size}
        for name, count in zip(found.class_names, pixels, strict=True)
    }
    rows = _rows(found, mpp)
    counts = dict.fromkeys(found.class_names[1:], 0)
    for row in rows:
        counts[row["class"]] += 1
    return {
        "width_px": width,
        "height_px": height,
        "mpp": mpp,
        "doubts": list(found.doubts),
        "classes": classes,
        "cells": None if found.labels is None else counts,
        "objects": None if found.labels is None else rows,
    }


def _rows(found: Segmentation, mpp: float | None) -> list[dict[str, Any]]:
    """Return one row a cell, with the columns of the cell table that a frame's cells have."""
    if found.labels is None:
        return []
    count, names = int(found.labels.max(initial=0)), found.class_names
    pixel = None if mpp is None else (mpp, mpp)
    cells = measure(found.labels, found.classes, count, len(names), 1.0, pixel)
    columns = [name for name in cells.dtype.names or () if name not in ("id", "class_index")]
    return [
        {"id": int(cell["id"]), "class": names[cell["class_index"]]}
        | {name: _number(cell[name]) for name in columns}
        for cell in cells
    ]


def _number(value: Any) -> float | int | None:
    number = value.item()
    return None if math.isnan(number) else round(number, 3)


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


def _check_names(query: Mapping[str, str]) -> None:
    for name in query:
        if name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, 1)
            raise HttpError(
                400,
                f"A query knows {', '.join(_KNOWN)}. Received: {name}.",
                f"Did you mean {near[0]}?" if near else "/openapi.json describes them.",
            )


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
