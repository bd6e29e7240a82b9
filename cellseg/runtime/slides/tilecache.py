"""Decoded tiles, kept as long as a byte limit allows, each decoded by one thread only.

Neighbouring windows share source tiles. Two threads that want the same tile at the same moment must
not both decode it: the first one does, the others wait for its result.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

__all__ = ["TileCache"]


class TileCache:
    """Least-recently-used arrays, bounded in bytes; safe for threads.

    Parameters
    ----------
    limit_bytes : int
        Sum of ``nbytes`` that is kept. An array larger than that is kept alone, until another one
        is asked for: a strip as large as the image would else be decoded for every window of it.

    Examples
    --------
    >>> import numpy as np
    >>> cache = TileCache(limit_bytes=100)
    >>> cache.get("a", lambda: np.zeros(60, np.uint8)).nbytes, cache.made
    (60, 1)
    >>> _ = cache.get("a", lambda: np.zeros(60, np.uint8))
    >>> cache.made
    1
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.made = 0
        self._held_bytes = 0
        self._lock = Lock()
        self._tiles: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._pending: dict[Hashable, Future[NDArray[Any]]] = {}

    def get(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the array of a key, made by ``make`` if it is not held.

        What ``make`` raises reaches every thread that waits for this key; nothing is kept then.
        """
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
                return tile
            waiting = self._pending.get(key)
            if waiting is None:
                mine = self._pending[key] = Future()
        if waiting is not None:
            return waiting.result()
        return self._make(key, make, mine)

    def resize(self, limit_bytes: int) -> None:
        """Keep at most so many bytes from now on."""
        with self._lock:
            self.limit_bytes = limit_bytes
            self._drop_surplus()

    def drop(self, key: Hashable) -> None:
        """Forget one array, if it is held."""
        with self._lock:
            if (dropped := self._tiles.pop(key, None)) is not None:
                self._held_bytes -= dropped.nbytes

    def clear(self) -> None:
        """Forget every array."""
        with self._lock:
            self._forget()

    def _make(
        self, key: Hashable, make: Callable[[], NDArray[Any]], mine: Future[NDArray[Any]]
    ) -> NDArray[Any]:
        with self._lock:
            if self._held_bytes > self.limit_bytes:  # one that is too large: not two of them
                self._forget()
        try:
            tile = make()
        except BaseException as error:
            with self._lock:
                del self._pending[key]
            mine.set_exception(error)
            raise
        with self._lock:
            self.made += 1
            del self._pending[key]
            self._tiles[key] = tile
            self._held_bytes += tile.nbytes
            self._drop_surplus()
        mine.set_result(tile)
        return tile

    def _forget(self) -> None:
        self._tiles.clear()
        self._held_bytes = 0

    def _drop_surplus(self) -> None:
        while self._held_bytes > self.limit_bytes and len(self._tiles) > 1:
            _, dropped = self._tiles.popitem(last=False)
            self._held_bytes -= dropped.nbytes
