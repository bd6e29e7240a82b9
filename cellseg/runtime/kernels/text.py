"""Cells as GeoJSON text: numbers into bytes, a million cells a second or so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NUMBER_BYTES", "put_features", "put_number"]

NUMBER_BYTES = 24
"""Room for one number with its sign, point and comma."""


@kernel
def put_features(
    uuids: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    values: NDArray[np.float64],
    decimals: NDArray[np.int64],
    texts: NDArray[np.uint8],
    text_ends: NDArray[np.int64],
    points: NDArray[np.float64],
    ring_sizes: NDArray[np.int32],
    ring_counts: NDArray[np.int32],
    areas: NDArray[np.float64],
    out: NDArray[np.uint8],
) -> int:
    """Write one Feature a cell, each after a comma and a line break.

    Parameters
    ----------
    uuids : uint8, shape (n, 36)
        Id of each cell, as text.
    classes : uint8, shape (n,)
        Class of each cell.
    values : float64, shape (n, k)
        Measurements; what is not a number is left out.
    decimals : int64, shape (k,)
        Digits behind the point.
    texts : uint8, shape (t,)
        Pieces of text one after the other: what comes before the id, between id and polygon,
        between id and several polygons, between coordinates and class, what ends a feature; the k
        names of measurements with their colons; the text of each class.
    text_ends : int64, shape (5 + k + c,)
        Where each piece ends.
    points : float64, shape (p, 2)
        Points of all rings, (x, y) in level-0 pixels; outlines counter-clockwise in (x, y), each
        followed by its holes, clockwise.
    ring_sizes : int32, shape (r,)
    ring_counts : int32, shape (n,)
    areas : float64, shape (r,)
        Of the rings; negative for holes.
    out : uint8, shape (bytes,)
        Written; large enough.

    Returns
    -------
    int
        Bytes written.
    """
    measured = values.shape[1]
    head, tail, end = np.int64(0), np.int64(3), np.int64(4)
    at, ring, point = np.int64(0), np.int64(0), np.int64(0)
    for row in range(classes.shape[0]):
        at = _put_text(out, at, texts, text_ends, head)
        for letter in range(36):
            out[at + letter] = uuids[row, letter]
        at += 36
        last = ring + ring_counts[row]
        outer = 0
        for index in range(ring, last):
            outer += areas[index] > 0
        at = _put_text(out, at, texts, text_ends, 1 if outer < 2 else 2)
        first_ring = ring
        while ring < last:
            is_more = outer > 1 and areas[ring] > 0  # one more polygon
            if is_more and ring > first_ring:
                out[at] = 93  # ]
                at += 1
            if ring > first_ring:
                out[at] = 44  # ,
                at += 1
            if is_more:
                out[at] = 91  # [
                at += 1
            at = _put_ring(points[point : point + ring_sizes[ring]], out, at)
            point += ring_sizes[ring]
            ring += 1
        if outer > 1:
            out[at] = 93
            at += 1
        at = _put_text(out, at, texts, text_ends, tail)
        at = _put_text(out, at, texts, text_ends, 5 + measured + classes[row])
        is_first = True
        for column in range(measured):
            value = values[row, column]
            if np.isnan(value):
                continue
            if not is_first:
                out[at] = 44  # ,
                at += 1
            is_first = False
            at = _put_text(out, at, texts, text_ends, 5 + column)
            at = put_number(out, at, value, decimals[column])
        at = _put_text(out, at, texts, text_ends, end)
    return int(at)


@kernel
def put_number(out: NDArray[np.uint8], at: int, value: float, decimals: int) -> int:
    """Write a finite number, rounded, without zeros at its end; return where it ends.

    Parameters
    ----------
    out : uint8, shape (bytes,)
    at : int
        Where to begin.
    value : float
        Below 1e18 once it is scaled.
    decimals : int
        Digits behind the point.
    """
    scale = 1.0
    for _ in range(decimals):
        scale *= 10.0
    ten = np.uint64(10)  # dividing what has no sign takes half the time
    whole = np.uint64(np.floor(abs(value) * scale + 0.5))
    if value < 0 and whole > 0:
        out[at] = 45  # -
        at += 1
    while decimals > 0 and whole % ten == 0:
        whole //= ten
        decimals -= 1
    digits, limit = 1, ten
    while whole >= limit:
        digits += 1
        limit *= ten
    digits = max(digits, decimals + 1)
    end = at + digits + (1 if decimals else 0)
    place = end - 1
    for index in range(digits):
        if decimals and index == decimals:
            out[place] = 46  # .
            place -= 1
        rest = whole // ten
        out[place] = np.uint8(48) + np.uint8(whole - rest * ten)
        whole = rest
        place -= 1
    return end


@kernel
def _put_ring(points: NDArray[np.float64], out: NDArray[np.uint8], at: int) -> int:
    """Write ``[[x,y],...,[x,y]]``, the first point once more at the end."""
    out[at] = 91  # [
    at += 1
    decimals = np.int64(2)
    for index in range(points.shape[0] + 1):
        point = index % points.shape[0]
        out[at] = 91
        at = put_number(out, at + 1, points[point, 0], decimals)
        out[at] = 44
        at = put_number(out, at + 1, points[point, 1], decimals)
        out[at] = 93
        out[at + 1] = 44
        at += 2
    out[at - 1] = 93
    return at


@kernel
def _put_text(
    out: NDArray[np.uint8],
    at: int,
    texts: NDArray[np.uint8],
    ends: NDArray[np.int64],
    index: int,
) -> int:
    start = ends[index - 1] if index else np.int64(0)
    for place in range(start, ends[index]):
        out[at] = texts[place]
        at += 1
    return at
