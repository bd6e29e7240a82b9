"""Outlines of cells: traced along the sides of pixels, then made of fewer points.

A side is walked with the cell to the right. Where two pixels of a cell touch by a corner only, the
outline keeps them together, so that a ring never meets itself::

    +---+           the ring turns left at the corner in the middle: both pixels lie
    | A |           inside one ring, and what is between them and another part of the
    +---+---+       cell is a hole of its own
        | A |
        +---+

Points are the middles of sides, in doubled coordinates: the outline of a slope is then a straight
line, half way between the pixels on either side of it. A polygon that stays within 0.35 pixels of
all middles has every pixel centre on the side where it was. Exact outlines, along sides and around
their corners, are what a tolerance of 0 asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["simplify_rings", "trace_cell"]


@kernel
def trace_cell(
    runs: NDArray[np.int32],
    y0: int,
    x0: int,
    mask: NDArray[np.uint8],
    corners: bool,
    points: NDArray[np.int32],
    ring_ends: NDArray[np.int64],
    rings: int,
) -> int:
    """Trace the outline of one cell, those of its holes included.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        The cell: y, x0, x1.
    y0, x0 : int
        Upper left corner of its box.
    mask : uint8, shape (h + 2, w + 2)
        Its box with a frame around it: 1 in the cell, else 0. On return, 2 is added where the upper
        side of a pixel lies on the outline.
    corners : bool
        Corners of the outline instead of middles of its sides.
    points : int32, shape (p, 2)
        Written: doubled (x, y), relative to the box; room for all sides of all outlines.
    ring_ends : int64, shape (r,)
        Written: where in ``points`` each ring ends; room for a quarter as many as points.
    rings : int
        How many there are already.

    Returns
    -------
    int
        How many there are now.
    """
    size = ring_ends[rings - 1] if rings else 0
    for run in range(runs.shape[0]):
        y = runs[run, 0] - y0 + 1
        for x in range(runs[run, 1] - x0 + 1, runs[run, 2] - x0 + 1):
            if (mask[y - 1, x] & 1) | (mask[y, x] & 2) == 0:
                size = _walk(mask, y, x, corners, points, size)
                ring_ends[rings] = size
                rings += 1
    return rings


@kernel
def _walk(
    mask: NDArray[np.uint8],
    y: int,
    x: int,
    corners: bool,
    points: NDArray[np.int32],
    size: int,
) -> int:
    """Walk around one ring from the upper side of a pixel; return where its points end."""
    vy, vx, way = y, x, 0  # 0: right, 1: down, 2: left, 3: up
    before = 3
    while True:
        dx = (way == 0) - (way == 2)
        dy = (way == 1) - (way == 3)
        if way == 0:
            if mask[vy, vx] & 2:
                return size
            mask[vy, vx] |= 2
        if not corners:
            points[size, 0], points[size, 1] = 2 * vx + dx - 2, 2 * vy + dy - 2
            size += 1
        elif way != before:
            points[size, 0], points[size, 1] = 2 * vx - 2, 2 * vy - 2
            size += 1
        before = way
        vx += dx
        vy += dy
        # The pixels ahead, to the left and to the right of the way.
        left_y, left_x = vy - (dx == 1 or dy == -1), vx - (dx == -1 or dy == -1)
        right_y, right_x = vy - (dx == -1 or dy == -1), vx - (dx == -1 or dy == 1)
        if mask[left_y, left_x] & 1:
            way = (way + 3) % 4
        elif not mask[right_y, right_x] & 1:
            way = (way + 1) % 4


@kernel
def simplify_rings(
    points: NDArray[np.int32],
    ring_ends: NDArray[np.int64],
    ring_counts: NDArray[np.int32],
    tolerance: float,
) -> int:
    """Leave out points of rings, in place; those of a cell neither cross nor change their places.

    Parameters
    ----------
    points : int32, shape (p, 2)
        Points of all rings, one ring after the other; on return, those that stay.
    ring_ends : int64, shape (r,)
        Where each ring ends; updated.
    ring_counts : int32, shape (n,)
        Rings of each cell.
    tolerance : float
        No point that is left out lies further from the ring, in units of ``points``. Where rings
        would cross, turn over or leave the ring around them, it is halved for that cell, until they
        do not.

    Returns
    -------
    int
        How many points stay.

    References
    ----------
    .. [1] Douglas and Peucker, "Algorithms for the reduction of the number of points", 1973.
    """
    keep = np.zeros(points.shape[0], np.bool_)
    ring, start, size = np.int64(0), np.int64(0), np.int64(0)
    for row in range(ring_counts.shape[0]):
        last = ring + ring_counts[row]
        end = ring_ends[last - 1] if last > ring else start
        allowed = tolerance
        while True:
            at = start
            for index in range(ring, last):
                _mark(points[at : ring_ends[index]], allowed, keep[at : ring_ends[index]])
                at = ring_ends[index]
            ends = ring_ends[ring:last]
            if allowed < 0.05:
                break
            if not _cross(points, ends, start, keep) and not _swapped(points, ends, start, keep):
                break
            allowed /= 2
        at = start
        for index in range(ring, last):
            for point in range(at, ring_ends[index]):
                if keep[point]:
                    points[size, 0], points[size, 1] = points[point, 0], points[point, 1]
                    size += 1
            at = ring_ends[index]
            ring_ends[index] = size
        ring, start = last, end
    return int(size)


@kernel
def _mark(points: NDArray[np.int32], tolerance: float, keep: NDArray[np.bool_]) -> None:
    """Mark the points of a closed ring that stay: at least three."""
    count = points.shape[0]
    keep[:] = False
    first = np.int64(0)
    far = _farthest_from_point(points, first)
    keep[0] = True
    keep[far] = True
    stack = np.empty((count + 2, 2), np.int64)
    stack[0, 0], stack[0, 1] = 0, far
    stack[1, 0], stack[1, 1] = far, count
    size = 2
    limit = tolerance * tolerance
    while size:
        size -= 1
        a, b = stack[size, 0], stack[size, 1]
        middle, distance = _farthest_from_line(points, a, b)
        if middle >= 0 and distance > limit:
            keep[middle] = True
            stack[size, 0], stack[size, 1] = a, middle
            stack[size + 1, 0], stack[size + 1, 1] = middle, b
            size += 2
    if keep.sum() < 3:  # flat: the point farthest from the line between the two
        one, one_distance = _farthest_from_line(points, first, far)
        two, two_distance = _farthest_from_line(points, far, count)
        keep[two if two_distance > one_distance else one] = True


@kernel
def _farthest_from_point(points: NDArray[np.int32], origin: int) -> int:
    found, largest = 0, np.int64(-1)
    for index in range(points.shape[0]):
        dx = np.int64(points[index, 0]) - points[origin, 0]
        dy = np.int64(points[index, 1]) - points[origin, 1]
        if dx * dx + dy * dy > largest:
            found, largest = index, dx * dx + dy * dy
    return found


@kernel
def _farthest_from_line(points: NDArray[np.int32], a: int, b: int) -> tuple[int, float]:
    """Return which point between two is farthest from the segment, and the squared distance."""
    count = points.shape[0]
    ax, ay = np.float64(points[a, 0]), np.float64(points[a, 1])
    bx, by = np.float64(points[b % count, 0]), np.float64(points[b % count, 1])
    dx, dy = bx - ax, by - ay
    length = dx * dx + dy * dy
    found, largest = -1, -1.0
    for index in range(a + 1, b):
        px, py = points[index, 0] - ax, points[index, 1] - ay
        along = 0.0 if length == 0 else min(1.0, max(0.0, (px * dx + py * dy) / length))
        ex, ey = px - along * dx, py - along * dy
        distance = ex * ex + ey * ey
        if distance > largest:
            found, largest = index, distance
    return found, largest


@kernel
def _cross(
    points: NDArray[np.int32], ends: NDArray[np.int64], start: int, keep: NDArray[np.bool_]
) -> bool:
    """Tell whether two segments of what stays of a cell's rings meet but at a common end."""
    room = ends[-1] - start if ends.shape[0] else 0
    segments, following = np.empty((8, room), np.int32), np.empty(room, np.int32)
    count = _fill_segments(points, ends, start, keep, segments, following)
    ax, ay, bx, by = segments[0], segments[1], segments[2], segments[3]
    left, top, right, bottom = segments[4], segments[5], segments[6], segments[7]
    for one in range(count):
        two = following[one]
        if _folds_back(bx[one] - ax[one], by[one] - ay[one], bx[two] - ax[two], by[two] - ay[two]):
            return True
    for one in range(count):
        near = 0  # boxes that touch; counted first, for that is done many at a time
        for two in range(one + 1, count):
            near += (
                (left[two] <= right[one])
                & (right[two] >= left[one])
                & (top[two] <= bottom[one])
                & (bottom[two] >= top[one])
            )
        for two in range(one + 1, count):
            if near == 0:
                break
            if (
                left[two] <= right[one]
                and right[two] >= left[one]
                and top[two] <= bottom[one]
                and bottom[two] >= top[one]
            ):
                near -= 1
                if following[one] == two or following[two] == one:
                    continue
                a = _side(ax[one], ay[one], bx[one], by[one], ax[two], ay[two])
                b = _side(ax[one], ay[one], bx[one], by[one], bx[two], by[two])
                c = _side(ax[two], ay[two], bx[two], by[two], ax[one], ay[one])
                d = _side(ax[two], ay[two], bx[two], by[two], bx[one], by[one])
                if a * b <= 0 and c * d <= 0:
                    return True
    return False


@kernel
def _swapped(
    points: NDArray[np.int32], ends: NDArray[np.int64], start: int, keep: NDArray[np.bool_]
) -> bool:
    """Tell whether of rings that do not cross one has turned over, or lies in no ring it should.

    An outer ring lies in an even number of others, most often in none, a hole in an odd one.
    """
    at = start
    for ring in range(ends.shape[0]):
        before, after = _twice_areas(points[at : ends[ring]], keep[at : ends[ring]])
        if (before > 0) != (after > 0):
            return True
        around, begin = 0, start
        for other in range(ends.shape[0]):
            if other != ring:  # a ring's first point always stays
                around += _is_around(
                    points[begin : ends[other]],
                    keep[begin : ends[other]],
                    points[at, 0],
                    points[at, 1],
                )
            begin = ends[other]
        if (around % 2 == 0) != (before > 0):
            return True
        at = ends[ring]
    return False


@kernel
def _twice_areas(ring: NDArray[np.int32], keep: NDArray[np.bool_]) -> tuple[int, int]:
    """Return twice the area of a ring, of all points and of those that stay; of holes negative."""
    every, kept, last = np.int64(0), np.int64(0), 0  # the first point always stays
    for step in range(1, ring.shape[0] + 1):
        index, before = step % ring.shape[0], step - 1
        every += np.int64(ring[before, 0]) * ring[index, 1]
        every -= np.int64(ring[index, 0]) * ring[before, 1]
        if keep[index]:
            kept += np.int64(ring[last, 0]) * ring[index, 1]
            kept -= np.int64(ring[index, 0]) * ring[last, 1]
            last = index
    return int(every), int(kept)


@kernel
def _is_around(ring: NDArray[np.int32], keep: NDArray[np.bool_], x: int, y: int) -> bool:
    """Tell whether what stays of a ring goes around a point."""
    inside, last = False, 0
    for step in range(1, ring.shape[0] + 1):
        index = step % ring.shape[0]
        if keep[index]:
            ay, by = ring[last, 1], ring[index, 1]
            if (ay <= y) != (by <= y):
                side = _side(ring[last, 0], ay, ring[index, 0], by, x, y)
                inside ^= (side > 0) == (by > ay)
            last = index
    return inside


@kernel
def _fill_segments(
    points: NDArray[np.int32],
    ends: NDArray[np.int64],
    start: int,
    keep: NDArray[np.bool_],
    segments: NDArray[np.int32],
    following: NDArray[np.int32],
) -> int:
    """Write the segments of a cell's rings: ends, boxes, and which one follows each; count them."""
    size, at = 0, start
    for ring in range(ends.shape[0]):
        begin = size
        for index in range(at, ends[ring]):
            if keep[index]:
                segments[0, size], segments[1, size] = points[index, 0], points[index, 1]
                following[size] = size + 1
                size += 1
        following[size - 1] = begin
        at = ends[ring]
    for one in range(size):
        for axis in range(2):
            a, b = segments[axis, one], segments[axis, following[one]]
            segments[2 + axis, one] = b
            segments[4 + axis, one], segments[6 + axis, one] = min(a, b), max(a, b)
    return size


@kernel
def _side(ax: int, ay: int, bx: int, by: int, px: int, py: int) -> int:
    value = np.int64(bx - ax) * np.int64(py - ay) - np.int64(by - ay) * np.int64(px - ax)
    return int(value > 0) - int(value < 0)


@kernel
def _folds_back(ax: int, ay: int, bx: int, by: int) -> bool:
    """Tell whether two segments that follow each other lie on each other."""
    return bool(ax * by - ay * bx == 0 and ax * bx + ay * by < 0)
