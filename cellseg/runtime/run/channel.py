"""A bounded queue between two stages that can be closed by its writers and cancelled by anyone."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import Generic, TypeVar

__all__ = ["Channel", "ChannelClosed"]

T = TypeVar("T")


class ChannelClosed(Exception):
    """Nothing more comes out of a channel, or nothing more may go in."""


class Channel(Generic[T]):
    """First in, first out, at most ``capacity`` items; `queue.Queue` cannot be closed.

    Parameters
    ----------
    capacity : int
        Items that wait at most, >= 1. A full channel holds its writers back: this is what bounds a
        run's memory.
    writers : int
        Threads that put; the channel closes when each has called `close`.

    Examples
    --------
    >>> channel = Channel[int](capacity=2)
    >>> channel.put(1); channel.close(); channel.get()
    1
    """

    def __init__(self, capacity: int, writers: int = 1) -> None:
        self._capacity = capacity
        self._writers = writers
        self._items: deque[T] = deque()
        self._changed = Condition()

    def put(self, item: T) -> None:
        """Add an item, waiting for room; raise ChannelClosed when nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._capacity or self._is_closed)
            if self._is_closed:
                raise ChannelClosed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Take the oldest item, waiting for one; raise ChannelClosed at the end."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items) or self._is_closed)
            if not self._items:
                raise ChannelClosed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Say that one writer is through; what was put can still be taken."""
        with self._changed:
            self._writers -= 1
            self._changed.notify_all()

    def cancel(self) -> None:
        """Drop what waits and let go of everybody."""
        with self._changed:
            self._writers = 0
            self._items.clear()
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)

    @property
    def _is_closed(self) -> bool:
        return self._writers <= 0
