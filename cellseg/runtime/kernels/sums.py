"""Sums over the pixels of each label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_values"]


@kernel
def add_values(
    labels: NDArray[np.uint32],
    values: NDArray[Any],
    counts: NDArray[np.int64],
    sums: NDArray[np.int64],
    squares: NDArray[np.int64],
) -> None:
    """Add the pixels of a window to what is known of each label.

    Parameters
    ----------
    labels : uint32, shape (h, w)
        1..n, 0 = background.
    values : uint8 or uint16, shape (h, w)
    counts, sums, squares : int64, shape (n,)
        Pixels, values and their squares; added to.
    """
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > 0:
                label = np.int64(labels[y, x]) - 1
                value = np.int64(values[y, x])
                counts[label] += 1
                sums[label] += value
                squares[label] += value * value
