"""How fast engines are here and now: a short trial, taken in turns."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cellseg.runtime.engines.trim import NOTHING, Sides, infer_seen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellseg.runtime.engines.base import Engine

__all__ = ["Measurement", "measure_speed"]

Key = TypeVar("Key")

_CHANCE = 0.5  # of the fastest's speed: what is slower does not become the fastest any more


@dataclass(frozen=True)
class Measurement:
    """Result of a trial."""

    px_per_s: float
    """Input pixels a second, the best of the rounds: what disturbs only slows down."""


def measure_speed(
    engines: Mapping[Key, Engine],
    rounds: int = 2,
    round_s: float = 0.3,
    unseen: Sides = NOTHING,
) -> dict[Key, Measurement]:
    """Measure engines by turns, so that a busy moment does not hit one of them alone.

    Those that are less than half as fast as the fastest in their first turn have no further one.

    Parameters
    ----------
    engines : mapping of Key to Engine
        Opened engines, any tile shapes.
    rounds : int
        Turns of each engine after a warm-up and a first, short turn.
    round_s : float
        Least duration of a turn, in seconds.
    unseen : Sides
        What nobody looks at of a tile.
    """
    for engine in engines.values():
        _run(engine, 0.0, unseen)
    best = {key: _run(engine, 0.0, unseen) for key, engine in engines.items()}
    limit = max(best.values()) * _CHANCE
    promising = {key: engine for key, engine in engines.items() if best[key] >= limit}
    for _ in range(rounds):
        for key, engine in promising.items():
            best[key] = max(best[key], _run(engine, round_s, unseen))
    return {key: Measurement(speed) for key, speed in best.items()}


def _run(engine: Engine, least_s: float, unseen: Sides) -> float:
    """Keep ``concurrency`` callers busy for a while; pixels a second, at least one tile each."""
    height, width = engine.tile_hw
    # Noise: a blank tile would flatter engines that skip zeros.
    tile = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    start = time.perf_counter()

    def work(_: int) -> int:
        done = 0
        while done == 0 or time.perf_counter() - start < least_s:
            infer_seen(engine, tile, None, unseen)
            done += 1
        return done

    with ThreadPoolExecutor(engine.concurrency) as pool:
        tiles = sum(pool.map(work, range(engine.concurrency)))
    return tiles * height * width / (time.perf_counter() - start)
