"""Which size of tile is fastest here: a short trial on first use, remembered afterwards.

A larger tile wastes less of its work on the halo; a smaller one stays in the caches, leaves the
engine's streams better balanced, and keeps closer to scattered tissue. Which of the two wins
depends on processor, engine, precision, network and slide. So a few sizes are run for a moment and
scored by the *wanted* pixels a second that they would make of the slide at hand. Speeds are kept
beside the choice of the engine, by machine, bundle, engine and versions: as long as they are there,
the same slide gets the same tile.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import closing
from typing import TYPE_CHECKING

from cellseg.errors import EngineError
from cellseg.runtime.engines.bystanders import Bystanders
from cellseg.runtime.engines.measure import measure_speed
from cellseg.runtime.engines.memory import recall, remember
from cellseg.runtime.engines.trim import Sides

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cellseg.runtime.engines.base import Engine

__all__ = ["TUNED_SIDES_PX", "fastest_tile_px"]

TUNED_SIDES_PX = (512, 768, 1024, 1536, 2048)

_LOG = logging.getLogger(__name__)
_MOST_S = 12.0
_PASSES = 4  # a warm-up, two rounds, and opening an engine, which takes about as long as a pass
_LEAST_GAIN = 1.03  # below it a difference is noise, and the usual tile is kept

Scores = dict[int, float]


def fastest_tile_px(
    wanted_shares: Mapping[int, float],
    usual_px: int,
    open_tile: Callable[[int], Engine],
    key: dict[str, object],
    halo_px: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Return the size of tile that makes most wanted pixels a second.

    Parameters
    ----------
    wanted_shares : mapping of int to float
        Sizes to choose from, and the part of what is computed with each that is wanted.
    usual_px : int
        Size to take where nothing speaks for another one.
    open_tile : callable
        Opens the engine for square tiles of a size; closed again here, one after the other.
    key : dict
        What the scores depend on; they are remembered under it.
    halo_px : int
        What nobody looks at on each side of a tile.
    clock : callable
        Seconds.

    Returns
    -------
    int
        One of the sizes, or ``usual_px``.
    """
    known = _recalled(key)
    missing = [side for side in sorted(wanted_shares) if side not in known]
    # First the one that the others must beat; then small ones, which take the least time.
    missing.sort(key=lambda side: side != usual_px)
    with Bystanders() as others:
        fresh = _measured(missing, open_tile, Sides(*(halo_px,) * 4), clock)
    if fresh:
        known |= fresh
        table = ",".join(f"{side}={speed:.0f}" for side, speed in sorted(known.items()))
        remember(key, table, disturbed=others.disturbed)
    scores = {side: known[side] * share for side, share in wanted_shares.items() if known[side]}
    chosen = _choose(scores, usual_px)
    _explain(scores, chosen, is_new=bool(fresh))
    return chosen


def _measured(
    sides: Sequence[int],
    open_tile: Callable[[int], Engine],
    unseen: Sides,
    clock: Callable[[], float],
) -> Scores:
    """Measure pixels a second, as long as the time for it lasts; 0 for what was not tried."""
    found: Scores = {}
    started_s = clock()
    for side in sides:
        pace = max(found.values(), default=0.0) or math.inf
        found[side] = 0.0
        if clock() - started_s + _PASSES * side * side / pace > _MOST_S:
            _LOG.info("tile: %d px would take too long to try", side)
            continue
        try:
            with closing(open_tile(side)) as engine:
                trial = measure_speed({side: engine}, round_s=0.2, unseen=unseen)
                found[side] = trial[side].px_per_s
        except (EngineError, MemoryError) as error:
            _LOG.warning("tile: %d px cannot be used: %s", side, error)
    return found


def _choose(scores: Scores, usual_px: int) -> int:
    """Take the best, if it is clearly better than the usual one."""
    if not scores:
        return usual_px
    best = max(scores, key=lambda side: scores[side])
    return usual_px if scores[best] < scores.get(usual_px, 0.0) * _LEAST_GAIN else best


def _explain(scores: Scores, chosen: int, *, is_new: bool) -> None:
    if not scores:
        return
    when = "tried just now" if is_new else "measured earlier on this machine"
    best = max(scores, key=lambda side: scores[side])
    reason = "the fastest" if chosen == best else f"as fast as {best} px to a few percent"
    table = ", ".join(f"{side} px {scores[side] / 1e6:.2f}" for side in sorted(scores))
    _LOG.info("tile: %d px is %s (MP/s here: %s; %s)", chosen, reason, table, when)


def _recalled(key: dict[str, object]) -> Scores:
    """Return the speeds that are known; none if the entry is not ours."""
    try:
        pairs = (item.split("=") for item in (recall(key) or "").split(",") if item)
        return {int(side): float(speed) for side, speed in pairs}
    except ValueError:
        return {}
