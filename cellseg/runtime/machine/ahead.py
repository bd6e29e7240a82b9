"""Work in threads, in order and a bounded number of results ahead."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor, Future

__all__ = ["in_order"]

_T = TypeVar("_T")
_R = TypeVar("_R")


def in_order(
    pool: Executor, make: Callable[[_T], _R], items: Iterable[_T], most: int
) -> Iterator[_R]:
    """Map in threads; yield results in the order of their items.

    `concurrent.futures.Executor.map` begins all items at once, and holds what nobody took yet.

    Parameters
    ----------
    pool : Executor
        Runs ``make``.
    make : callable
        Called with each item; what it raises is raised here.
    items : iterable
        Taken one by one, by the thread that takes the results.
    most : int
        Results, done or under way, that wait beside the one that is yielded.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(in_order(pool, abs, [-3, 1, -2], most=2))
    [3, 1, 2]
    """
    waiting: deque[Future[_R]] = deque()
    for item in items:
        waiting.append(pool.submit(make, item))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
