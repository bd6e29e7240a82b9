"""Buffers that are used again once nobody holds them: no copies, no releases, no allocation.

A buffer is handed out as views of itself. NumPy arrays, their views and DLPack capsules all hold a
reference to the array they look into, so a buffer whose reference count is what it was at rest is
one that nobody can see any more.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["BufferPool", "FramePool", "ResultPool"]


class BufferPool:
    """Byte buffers of one size. For one thread that takes; any may hold.

    Parameters
    ----------
    nbytes : int
        Size of each.

    Examples
    --------
    >>> pool = BufferPool(4)
    >>> held, other = pool.take(), pool.take()
    >>> pool.size
    2
    >>> del held
    >>> again = pool.take()
    >>> pool.size
    2
    """

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._buffers: list[NDArray[np.uint8]] = []
        self._at_rest = 0

    @property
    def size(self) -> int:
        """Buffers made so far: as many as were ever held at once."""
        return len(self._buffers)

    def take(self) -> NDArray[np.uint8]:
        """Return a view, uint8 (nbytes,), of a buffer that is free, whatever is in it."""
        for index in range(len(self._buffers)):
            if self._references(index) == self._at_rest:
                return self._buffers[index][:]
        self._buffers.append(np.empty(self._nbytes, np.uint8))
        self._at_rest = self._references(len(self._buffers) - 1)
        return self._buffers[-1][:]

    def _references(self, index: int) -> int:
        return sys.getrefcount(self._buffers[index])


class FramePool:
    """Frames of changing shapes, of one kind at a time."""

    def __init__(self) -> None:
        self._kind: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        self._pool = BufferPool(0)

    def take(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> NDArray[Any]:
        """Return an array to fill."""
        kind = (shape, np.dtype(dtype))
        if kind != self._kind:
            self._kind = kind
            self._pool = BufferPool(int(np.prod(shape)) * kind[1].itemsize)
        return self._pool.take().view(kind[1]).reshape(shape)


class ResultPool:
    """Class maps and label maps of one shape.

    Parameters
    ----------
    hw : (int, int)
        Shape of both.
    with_labels : bool
        Whether label maps are wanted.
    """

    def __init__(self, hw: tuple[int, int], with_labels: bool) -> None:
        self._hw, self._with_labels = hw, with_labels
        pixels = hw[0] * hw[1]
        self._labels_at = -(-pixels // 4) * 4  # at a multiple of their item's size
        self._pool = BufferPool(self._labels_at + 4 * pixels if with_labels else pixels)

    def take(self) -> tuple[NDArray[np.uint8], NDArray[np.uint32] | None]:
        """Return a class map and a label map to fill, whatever is in them."""
        buffer = self._pool.take()
        classes = buffer[: self._hw[0] * self._hw[1]].reshape(self._hw)
        if not self._with_labels:
            return classes, None
        return classes, buffer[self._labels_at :].view(np.uint32).reshape(self._hw)
