"""Numbers of instances: in raster order of each one's first pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numba import njit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def number_in_raster_order(
    labels: NDArray[np.uint32],
    keep: NDArray[np.bool_],
    table: NDArray[np.uint32],
    first: NDArray[np.int64],
) -> int:
    """Renumber labels 1..n in place by their first pixel; labels not kept become 0.

    Parameters
    ----------
    labels : uint32, shape (H, W)
        0 stays 0.
    keep : bool, shape (m + 1,)
        Which of the labels 0..m stay; ``keep[0]`` is not looked at.
    table : uint32, shape (m + 1,)
        Zeros on entry; new number of each label on return.
    first : int64, shape (m,)
        On return, its first n values are the first pixels ``y * W + x`` of the numbers 1..n.

    Returns
    -------
    int
        How many there are: n.
    """
    height, width = labels.shape
    count = 0
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 0:
                continue
            if not keep[label]:
                labels[y, x] = 0
                continue
            if table[label] == 0:
                first[count] = y * width + x
                count += 1
                table[label] = count
            labels[y, x] = table[label]
    return count
