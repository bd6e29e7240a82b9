"""Decoded tiles: bounded, and made once however many threads ask."""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import numpy as np
import pytest

from cellseg.runtime.slides.tilecache import TileCache


def tile(size: int = 10) -> np.ndarray:
    return np.zeros(size, np.uint8)


def test_least_recently_used_goes_first() -> None:
    cache = TileCache(20)
    cache.get("a", tile)
    cache.get("b", tile)
    cache.get("a", tile)
    cache.get("c", tile)
    made = cache.made
    cache.get("a", tile)
    assert cache.made == made
    cache.get("b", tile)
    assert cache.made == made + 1


def test_a_smaller_limit_holds_at_once() -> None:
    cache = TileCache(20)
    cache.get("a", tile)
    cache.get("b", tile)
    cache.resize(10)
    cache.get("b", tile)
    assert cache.made == 2
    cache.get("a", tile)
    assert cache.made == 3


def test_a_tile_larger_than_the_limit_is_kept_until_another_is_made() -> None:
    cache = TileCache(5)
    assert cache.get("a", tile).size == 10
    cache.get("a", tile)
    assert cache.made == 1
    cache.get("b", lambda: tile(4))
    cache.get("b", tile)
    assert cache.made == 2
    cache.get("a", tile)
    assert cache.made == 3


def test_two_tiles_larger_than_the_limit_are_never_held_together() -> None:
    cache = TileCache(5)
    first = weakref.ref(cache.get("a", tile))
    held = []
    cache.get("b", lambda: (held.append(first()), tile())[1])
    assert held == [None]


def test_a_smaller_limit_leaves_the_newest_tile() -> None:
    cache = TileCache(20)
    cache.get("a", tile)
    cache.get("b", tile)
    cache.resize(5)
    cache.get("b", tile)
    assert cache.made == 2


def test_threads_that_want_the_same_tile_wait_for_one_of_them() -> None:
    cache, start = TileCache(100), Barrier(8)

    def want(_: int) -> int:
        start.wait()
        return id(cache.get("a", tile))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(want, range(8)))) == 1
    assert cache.made == 1


def test_failure_reaches_who_waits_and_is_not_kept() -> None:
    cache, entered, go = TileCache(100), Event(), Event()

    def fail() -> np.ndarray:
        entered.set()
        go.wait()
        raise ValueError("corrupt")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, "a", fail)
        entered.wait()
        second = pool.submit(cache.get, "a", tile)
        go.set()
        with pytest.raises(ValueError, match="corrupt"):
            first.result()
        assert second.exception() is None or "corrupt" in str(second.exception())
    assert cache.get("a", tile).size == 10
