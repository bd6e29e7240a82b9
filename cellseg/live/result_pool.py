"""Buffers of results, used again once nobody holds them: results without copies or releases.

A buffer is handed out as a view of itself. NumPy arrays, their views and DLPack capsules all hold
a reference to the array they look into, so a buffer whose reference count is what it was at rest is
one that nobody can see any more.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ResultPool"]


class ResultPool:
    """Class maps and label maps of one shape. For one thread.

    Parameters
    ----------
    hw : (int, int)
        Shape of both.
    with_labels : bool
        Whether label maps are wanted.

    Examples
    --------
    >>> pool = ResultPool((2, 2), with_labels=False)
    >>> held, _ = pool.take()
    >>> other, _ = pool.take()
    >>> pool.size
    2
    >>> del held
    >>> again, _ = pool.take()
    >>> pool.size
    2
    """

    def __init__(self, hw: tuple[int, int], with_labels: bool) -> None:
        self._hw, self._with_labels = hw, with_labels
        self._buffers: list[NDArray[np.uint8]] = []
        self._at_rest = 0

    @property
    def size(self) -> int:
        """Buffers made so far: as many as were ever held at once."""
        return len(self._buffers)

    def take(self) -> tuple[NDArray[np.uint8], NDArray[np.uint32] | None]:
        """Return a class map and a label map to fill, whatever is in them."""
        buffer = self._free()
        if buffer is None:
            buffer = self._grow()
        height, width = self._hw
        pixels = height * width
        classes = buffer[:pixels].reshape(height, width)
        if not self._with_labels:
            return classes, None
        labels = buffer[-4 * pixels :].view(np.uint32).reshape(height, width)
        return classes, labels

    def _free(self) -> NDArray[np.uint8] | None:
        for index in range(len(self._buffers)):
            if self._references(index) == self._at_rest:
                return self._buffers[index]
        return None

    def _references(self, index: int) -> int:
        return sys.getrefcount(self._buffers[index])

    def _grow(self) -> NDArray[np.uint8]:
        pixels = self._hw[0] * self._hw[1]
        padded = -(-pixels // 4) * 4  # label maps begin at a multiple of their item's size
        size = padded + 4 * pixels if self._with_labels else pixels
        self._buffers.append(np.empty(size, np.uint8))
        self._at_rest = self._references(len(self._buffers) - 1)
        return self._buffers[-1]
