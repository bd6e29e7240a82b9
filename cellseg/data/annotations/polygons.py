"""Polygons and run lengths to pixels.

A pixel belongs to a polygon if its centre does; coordinates are corners, so that the centre of the
first pixel is (0.5, 0.5). Filling by outline, as drawing libraries do, would widen every cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["ellipse_ring", "fill_polygon", "mask_from_runs", "runs_from_text"]


def fill_polygon(
    rings: Iterable[NDArray[np.float64]], hw: tuple[int, int]
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Rasterize one polygon by the even-odd rule: every further ring is a hole.

    Parameters
    ----------
    rings : iterable of float64 arrays, shape (n, 2)
        (x, y) in pixels.
    hw : (int, int)
        Size of the image.

    Returns
    -------
    (slice, slice)
        The window of the image that holds it; empty where it lies outside.
    bool array
        Which pixels of that window are inside.

    Raises
    ------
    DataError
        If a corner is no number.
    """
    from cellseg.runtime.kernels.polygon import fill_even_odd
    from cellseg.runtime.shapes.outlines import edges_of

    edges = np.concatenate([edges_of(np.asarray(ring, np.float64)) for ring in rings])
    if not np.isfinite(edges).all():
        raise DataError("The corners of an outline are numbers. Received: one that is none.")
    low = np.floor(edges.reshape(-1, 2).min(0)).astype(int)
    high = np.ceil(edges.reshape(-1, 2).max(0)).astype(int)
    (x0, y0), (x1, y1) = np.maximum(low, 0), np.minimum(high, (hw[1], hw[0]))
    window = np.s_[int(y0) : max(int(y0), int(y1)), int(x0) : max(int(x0), int(x1))]
    inside = np.zeros(
        (window[0].stop - window[0].start, window[1].stop - window[1].start), np.uint8
    )
    if inside.size:
        ys, xs = np.arange(y0, y1) + 0.5, np.arange(x0, x1) + 0.5
        fill_even_odd(edges, ys, xs, inside)
    return window, inside.view(bool)


def ellipse_ring(
    centre: Sequence[float], edge: Sequence[float], points: int = 64
) -> NDArray[np.float64]:
    """Circle around a centre through a point, as a ring."""
    radius = float(np.hypot(edge[0] - centre[0], edge[1] - centre[1]))
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], -1)


def mask_from_runs(runs: Sequence[int], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask of COCO run lengths: down the columns, background first.

    Raises
    ------
    DataError
        If the runs do not add up to the image.
    """
    counts = np.asarray(runs, np.int64)
    if (counts < 0).any() or counts.sum() != hw[0] * hw[1]:
        raise DataError(
            f"Run lengths add up to the image, {hw[1]} x {hw[0]} px. Received: {int(counts.sum())}."
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(hw[::-1]).T


def runs_from_text(text: str) -> list[int]:
    """Run lengths of a compressed COCO string.

    Each number is written in groups of five bits, lowest first, with a sixth bit for "more
    follows", as a character from ``0`` on; from the third on it is the difference to the number
    two before.

    References
    ----------
    .. [1] The COCO API's ``maskApi.c``, ``rleFrString``.
    """
    runs: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            if place >= len(text):
                raise DataError(f"A compressed run length is whole. Received: {text[-12:]!r}.")
            group = ord(text[place]) - 48
            value |= (group & 31) << shift
            more, shift, place = bool(group & 32), shift + 5, place + 1
            if not more and group & 16:
                value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs
