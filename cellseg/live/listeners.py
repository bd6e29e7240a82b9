"""Callbacks of which there may be several, and none of which can stop a session."""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Listeners"]

_LOG = logging.getLogger(__name__)


class Listeners:
    """Callables that are all called, in the order they were added.

    Parameters
    ----------
    name : str
        What they listen to, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = Lock()
        self._callbacks: tuple[Callable[..., Any], ...] = ()

    def add(self, callback: Callable[..., Any]) -> Callable[[], None]:
        """Add a callable; return what takes it away again."""
        with self._lock:
            self._callbacks = (*self._callbacks, callback)

        def remove() -> None:
            with self._lock:
                self._callbacks = tuple(each for each in self._callbacks if each is not callback)

        return remove

    def __call__(self, *values: Any) -> None:
        """Call all; one that fails is logged, and the others are called all the same."""
        for callback in self._callbacks:
            self._call(callback, values)

    def _call(self, callback: Callable[..., Any], values: tuple[Any, ...]) -> None:
        try:
            callback(*values)
        except BaseException:  # sys.exit(), too, which would end the session's thread alone
            _LOG.exception("a listener of %s failed", self._name)
