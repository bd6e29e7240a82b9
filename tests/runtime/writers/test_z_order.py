"""One pass along a Z gives the pyramid that level after level would give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg.runtime.store.labels import mean_halved
from cellseg.runtime.writers.z_order import PyramidGrid, build_in_z_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

TILE_PX = 8


def built(image: NDArray[np.uint8]) -> tuple[PyramidGrid, dict[tuple[int, int, int], bytes]]:
    grid = PyramidGrid(image.shape[:2], TILE_PX)
    tiles: dict[tuple[int, int, int], bytes] = {}

    def start(row: int, column: int) -> Callable[[], NDArray[np.uint8]]:
        y, x = row * TILE_PX, column * TILE_PX
        return lambda: image[y : y + TILE_PX, x : x + TILE_PX]

    def put(level: int, row: int, column: int, data: bytes) -> None:
        assert (level, row, column) not in tiles
        tiles[level, row, column] = data

    build_in_z_order(grid, start, lambda pixels: pixels.tobytes(), put)
    return grid, tiles


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 10**6))
def test_every_tile_of_every_level_is_made_once_and_right(
    height: int, width: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    grid, tiles = built(image)
    for level, hw in enumerate(grid.level_hws):
        assert image.shape[:2] == hw
        for y in range(0, hw[0], TILE_PX):
            for x in range(0, hw[1], TILE_PX):
                found = tiles.pop((level, y // TILE_PX, x // TILE_PX))
                assert found == image[y : y + TILE_PX, x : x + TILE_PX].tobytes()
        image = mean_halved(image)
    assert not tiles


def test_no_more_than_a_few_tiles_are_under_way() -> None:
    started = put = most = 0

    def start(row: int, column: int) -> Callable[[], NDArray[np.uint8]]:
        nonlocal started, most
        started += 1
        most = max(most, started - put)
        return lambda: np.zeros((*grid.tile_hw(0, row, column), 3), np.uint8)

    def count(level: int, row: int, column: int, data: bytes) -> None:
        nonlocal put
        put += level == 0

    grid = PyramidGrid((200, 200), TILE_PX)
    build_in_z_order(grid, start, bytes, count)
    assert started == put == 25**2
    assert most <= 6


def test_a_tile_that_fails_ends_it() -> None:
    def start(row: int, column: int) -> Callable[[], NDArray[np.uint8]]:
        def fail() -> NDArray[np.uint8]:
            raise OSError("unreadable")

        return fail

    with pytest.raises(OSError, match="unreadable"):
        build_in_z_order(PyramidGrid((20, 20), TILE_PX), start, bytes, lambda *_: None)
