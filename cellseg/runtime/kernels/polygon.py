"""Polygons on a grid: which sample points lie inside, which cells an outline touches.

A point is inside where a ray to its left crosses the outline an odd number of times (even-odd, so
that a hole is one more ring). Where an edge crosses a line of samples is computed from the edge and
the line alone, never from the window, so a window holds the same whether it is filled alone or as
part of a larger one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fill_even_odd", "find_crossing", "mark_touched", "points_inside"]


@kernel
def fill_even_odd(
    edges: NDArray[np.float64],
    ys: NDArray[np.float64],
    xs: NDArray[np.float64],
    out: NDArray[np.uint8],
) -> None:
    """Set the sample points inside one polygon to 1, those outside to 0.

    Parameters
    ----------
    edges : float64, shape (n, 4)
        x0, y0, x1, y1 of every edge of every ring, y0 <= y1: the same whichever way it was drawn.
    ys, xs : float64, shapes (h,) and (w,)
        Coordinates of the lines and columns of samples, ascending.
    out : uint8, shape (h, w)
        Written.

    Notes
    -----
    A point on a left or upper edge is inside, on a right or lower edge outside: polygons that share
    an edge share no point.
    """
    out[:] = 0
    for index in range(edges.shape[0]):
        x0, y0, x1, y1 = edges[index]
        if y0 == y1 or y1 <= ys[0] or y0 > ys[-1]:
            continue
        slope = (x1 - x0) / (y1 - y0)
        for line in range(np.searchsorted(ys, y0), np.searchsorted(ys, y1)):
            crossing = x0 + (ys[line] - y0) * slope
            column = np.searchsorted(xs, crossing)
            if column < xs.shape[0]:
                out[line, column] ^= 1
    for line in range(out.shape[0]):
        inside = np.uint8(0)
        for column in range(out.shape[1]):
            inside ^= out[line, column]
            out[line, column] = inside


@kernel
def mark_touched(
    edges: NDArray[np.float64],
    y_edges: NDArray[np.float64],
    x_edges: NDArray[np.float64],
    out: NDArray[np.uint8],
) -> None:
    """Set the cells of a grid that an outline runs through to 1; leave the others.

    Parameters
    ----------
    edges : float64, shape (n, 4)
        x0, y0, x1, y1; y0 <= y1.
    y_edges, x_edges : float64, shapes (h + 1,) and (w + 1,)
        Where rows and columns of cells begin, and the last ones end.
    out : uint8, shape (h, w)
        Written in place.
    """
    rows, columns = out.shape
    for index in range(edges.shape[0]):
        x0, y0, x1, y1 = edges[index]
        first = max(np.searchsorted(y_edges, y0, side="right") - 1, 0)
        last = min(np.searchsorted(y_edges, y1, side="right") - 1, rows - 1)
        for row in range(first, last + 1):
            if y_edges[row] > y1 or y_edges[row + 1] < y0:
                continue
            left, right = min(x0, x1), max(x0, x1)
            if y1 != y0:  # the part of the edge in this row of cells
                slope = (x1 - x0) / (y1 - y0)
                a = x0 + (max(y0, y_edges[row]) - y0) * slope
                b = x0 + (min(y1, y_edges[row + 1]) - y0) * slope
                left, right = max(left, min(a, b)), min(right, max(a, b))
            if right < x_edges[0] or left > x_edges[-1]:
                continue
            start = max(np.searchsorted(x_edges, left, side="right") - 1, 0)
            stop = min(np.searchsorted(x_edges, right, side="right") - 1, columns - 1)
            for column in range(start, stop + 1):
                out[row, column] = 1


@kernel
def points_inside(
    edges: NDArray[np.float64],
    ys: NDArray[np.float64],
    xs: NDArray[np.float64],
    out: NDArray[np.bool_],
) -> None:
    """Tell which points lie inside one polygon; points on edges are as in `fill_even_odd`.

    Parameters
    ----------
    edges : float64, shape (n, 4)
        x0, y0, x1, y1 of every edge of every ring, y0 <= y1.
    ys, xs : float64, shape (p,)
        The points.
    out : bool, shape (p,)
        Written.
    """
    for point in range(ys.shape[0]):
        inside = False
        for index in range(edges.shape[0]):
            x0, y0, x1, y1 = edges[index]
            if (
                y0 <= ys[point] < y1
                and x0 + (ys[point] - y0) * ((x1 - x0) / (y1 - y0)) <= xs[point]
            ):
                inside = not inside
        out[point] = inside


@kernel
def find_crossing(ring: NDArray[np.float64], order: NDArray[np.int64], most: int) -> int:
    """Find an edge of a closed ring that crosses another.

    Parameters
    ----------
    ring : float64, shape (n, 2)
        Corners; the last leads back to the first.
    order : int64, shape (n,)
        Edges by the smaller x of their ends.
    most : int
        Pairs to look at before giving up.

    Returns
    -------
    int
        The edge's index; -1 where none crosses, or none was found in time.
    """
    count, looked = ring.shape[0], 0
    for place in range(count):
        one = order[place]
        ax, ay = ring[one]
        bx, by = ring[(one + 1) % count]
        for other in order[place + 1 :]:
            cx, cy = ring[other]
            dx, dy = ring[(other + 1) % count]
            if min(cx, dx) > max(ax, bx) or looked > most:
                break
            looked += 1
            if max(cy, dy) < min(ay, by) or min(cy, dy) > max(ay, by):
                continue
            first = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
            second = (bx - ax) * (dy - ay) - (by - ay) * (dx - ax)
            third = (dx - cx) * (ay - cy) - (dy - cy) * (ax - cx)
            fourth = (dx - cx) * (by - cy) - (dy - cy) * (bx - cx)
            if first * second < 0 and third * fourth < 0:
                return int(one)
    return -1
