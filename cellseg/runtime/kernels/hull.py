"""Pixels of a convex hull, counted in whole numbers.

As scikit-image's ``convex_image``: the hull of the middles of all sides of a cell's pixels; a pixel
belongs to it if its centre does, also where it lies on the hull itself. Coordinates are doubled, so
that middles of sides are whole numbers, and nothing is rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["hull_pixels"]


@kernel
def hull_pixels(left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    """Count the pixels of the convex hull of a cell.

    Parameters
    ----------
    left, right : int64, shape (h,)
        First and last pixel of the cell in each line; left > right where a line has none. The first
        and the last line have some.

    Returns
    -------
    int
    """
    lines = left.shape[0]
    low = np.empty(2 * lines + 1, np.int64)
    _spread(left, right, low, np.int64(-1))
    high = np.empty(2 * lines + 1, np.int64)
    _spread(left, right, high, np.int64(1))
    first = _supported(low)
    last = -_supported(-high)
    total = 0
    for line in range(lines):
        total += last[line] - first[line] + 1
    return total


@kernel
def _spread(
    left: NDArray[np.int64], right: NDArray[np.int64], out: NDArray[np.int64], sign: int
) -> None:
    """Fill in how far the middles of sides reach to one side, in doubled lines from -1 on."""
    far = np.int64(1) << 60
    out[:] = -sign * far
    for line in range(left.shape[0]):
        if left[line] > right[line]:
            continue
        reach = 2 * (left[line] if sign < 0 else right[line])
        middle = 2 * line + 1
        out[middle] = reach + sign
        for beside in (middle - 1, middle + 1):
            out[beside] = max(out[beside], reach) if sign > 0 else min(out[beside], reach)


@kernel
def _supported(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """First whole pixel of each line at or beyond the lower convex envelope of some points.

    Parameters
    ----------
    values : int64, shape (2 * h + 1,)
        Least doubled x of each doubled line; what lies beyond 2 ** 59 is no point.

    Returns
    -------
    int64, shape (h,)
    """
    stack = np.empty(values.shape[0], np.int64)
    size = 0
    for at in range(values.shape[0]):
        if abs(values[at]) > np.int64(1) << 59:
            continue
        while size >= 2:
            a, b = stack[size - 2], stack[size - 1]
            turn = (values[b] - values[a]) * (at - b) - (values[at] - values[b]) * (b - a)
            if turn < 0:  # b lies to the inside of a .. at is false: it stays
                break
            size -= 1
        stack[size] = at
        size += 1
    first = np.empty(values.shape[0] // 2, np.int64)
    part = 0
    for line in range(first.shape[0]):
        at = 2 * line + 1
        while part + 2 < size and stack[part + 1] < at:
            part += 1
        a, b = stack[part], stack[part + 1]
        rise = (values[b] - values[a]) * (at - a)
        # ceil((values[a] + rise / (b - a)) / 2), the sum in whole numbers
        over = values[a] * (b - a) + rise
        first[line] = -((-over) // (2 * (b - a)))
    return first
