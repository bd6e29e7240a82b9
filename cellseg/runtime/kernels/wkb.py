"""Polygons as well-known binary, as GeoParquet holds them.

References
----------
.. [1] OGC 06-103r4, "Simple feature access", section 8.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["put_wkb", "ring_areas"]

_LITTLE_ENDIAN = 1
_POLYGON, _MULTI_POLYGON = 3, 6


@kernel
def ring_areas(
    points: NDArray[np.float64], ring_sizes: NDArray[np.int32], out: NDArray[np.float64]
) -> None:
    """Area of each ring: positive for an outline, negative for a hole.

    Parameters
    ----------
    points : float64, shape (p, 2)
        Points of all rings, (x, y).
    ring_sizes : int32, shape (r,)
    out : float64, shape (r,)
        Written.
    """
    start = 0
    for ring in range(ring_sizes.shape[0]):
        size = ring_sizes[ring]
        total = 0.0
        x0, y0 = points[start, 0], points[start, 1]
        for index in range(1, size - 1):
            ax, ay = points[start + index, 0] - x0, points[start + index, 1] - y0
            bx, by = points[start + index + 1, 0] - x0, points[start + index + 1, 1] - y0
            total += ax * by - ay * bx
        out[ring] = total / 2
        start += size


@kernel
def put_wkb(
    points: NDArray[np.float64],
    ring_sizes: NDArray[np.int32],
    ring_counts: NDArray[np.int32],
    areas: NDArray[np.float64],
    ends: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Write a Polygon, or a MultiPolygon where a cell has several outlines, for each cell.

    Parameters
    ----------
    points, ring_sizes, ring_counts
        As in `cellseg.runtime.kernels.text.put_features`.
    areas : float64, shape (r,)
        From `ring_areas`.
    ends : int32, shape (n + 1,)
        Written: where each cell's bytes begin, and the last one's end.
    out : uint8, shape (bytes,)
        Written; 16 bytes a point and one more, and 18 a ring and one more, suffice.
    """
    number = np.empty(1, np.float64)
    number_bytes = number.view(np.uint8)
    at, ring, point = np.int64(0), 0, 0
    ends[0] = 0
    for row in range(ring_counts.shape[0]):
        last = ring + ring_counts[row]
        outer = np.int64(0)
        for index in range(ring, last):
            outer += areas[index] > 0
        if outer > 1:
            out[at] = _LITTLE_ENDIAN
            at = _put_whole(out, at + 1, np.int64(_MULTI_POLYGON))
            at = _put_whole(out, at, outer)
        while ring < last:
            stop = ring + 1
            while stop < last and (outer < 2 or areas[stop] < 0):
                stop += 1
            out[at] = _LITTLE_ENDIAN
            at = _put_whole(out, at + 1, np.int64(_POLYGON))
            at = _put_whole(out, at, stop - ring)
            while ring < stop:
                size = ring_sizes[ring]
                at = _put_whole(out, at, np.int64(size) + 1)
                for index in range(size + 1):
                    for axis in range(2):
                        number[0] = points[point + index % size, axis]
                        for byte in range(8):
                            out[at + byte] = number_bytes[byte]
                        at += 8
                point += size
                ring += 1
        ends[row + 1] = at


@kernel
def _put_whole(out: NDArray[np.uint8], at: int, value: int) -> int:
    for byte in range(4):
        out[at + byte] = (value >> (8 * byte)) & 255
    return at + 4
