"""Where all frames lie: the places that fit the measured shifts best, drift included.

Least squares over all pairs at once: each measured shift pulls its two frames by its confidence,
and each frame is pulled back to where the stage said it is, very weakly: that decides where nothing
was measured, and where the whole lies. What contradicts the rest is left out, and it is solved
again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Link", "settle_loose", "solve_places"]

_STAGE_WEIGHT = 1e-4
_LARGEST_MISFIT_PX = 3.0
_ROUNDS = 4
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Link:
    """A measured shift between two frames."""

    first: int
    """Index of one frame."""

    second: int
    """Index of the other."""

    yx: tuple[float, float]
    """From the first one's corner to the second one's, pixels."""

    weight: float
    """Confidence, more than 0."""


def solve_places(stage_yx: NDArray[np.float64], links: Sequence[Link]) -> NDArray[np.float64]:
    """Place frames.

    Parameters
    ----------
    stage_yx : float64, shape (n, 2)
        Where the stage said that they are, pixels.
    links : sequence of Link
        Measured shifts.

    Returns
    -------
    float64, shape (n, 2)
        Where they are.
    """
    kept = list(links)
    for _ in range(_ROUNDS):
        places = _least_squares(stage_yx, kept)
        misfits = np.array([_misfit(places, link) for link in kept])
        # The worst go first: one wrong shift bends all that is near it.
        limit = max(_LARGEST_MISFIT_PX, misfits.max(initial=0.0) / 2)
        if not (misfits > limit).any():
            return places
        kept = [link for link, misfit in zip(kept, misfits, strict=True) if misfit <= limit]
    return _least_squares(stage_yx, kept)


def settle_loose(
    places: NDArray[np.float64],
    stage_yx: NDArray[np.float64],
    hw: NDArray[np.float64],
    links: Sequence[Link],
    reach_px: float = 32.0,
) -> NDArray[np.float64]:
    """Move frames that nothing holds, blank ground, to where the others say the stage was.

    Parameters
    ----------
    places, stage_yx : float64, shape (n, 2)
        Where frames lie, from `solve_places`, and where the stage said they are.
    hw : float64, shape (n, 2)
        Their heights and widths.
    links : sequence of Link
        Measured shifts.
    reach_px : float
        A loose frame that stands out over the others by less is moved in: that much is the stage's.

    Returns
    -------
    float64, shape (n, 2)
        All places.
    """
    is_held = np.zeros(len(places), bool)
    is_held[[end for link in links for end in (link.first, link.second)]] = True
    if not is_held.any() or is_held.all():
        return places
    settled = places.copy()
    settled[~is_held] = stage_yx[~is_held] + np.median((places - stage_yx)[is_held], axis=0)
    low = places[is_held].min(axis=0)
    high = (places + hw)[is_held].max(axis=0)
    out = np.clip(settled, low, np.maximum(low, high - hw)) - settled
    is_little = ~is_held[:, None] & (np.abs(out) <= reach_px)
    settled[is_little] += out[is_little]
    return settled


def _misfit(places: NDArray[np.float64], link: Link) -> float:
    return float(np.abs(places[link.second] - places[link.first] - link.yx).max())


def _least_squares(stage_yx: NDArray[np.float64], links: Sequence[Link]) -> NDArray[np.float64]:
    """Solve the normal equations by conjugate gradients, from the stage's places on."""
    if not links:
        return stage_yx.copy()
    first = np.array([link.first for link in links])
    second = np.array([link.second for link in links])
    weight = np.array([link.weight for link in links])[:, None]
    shift = np.array([link.yx for link in links], np.float64)

    def pulled(places: NDArray[np.float64]) -> NDArray[np.float64]:
        pull = weight * (places[second] - places[first])
        return _scattered(pull, first, second, len(stage_yx)) + _STAGE_WEIGHT * places

    wanted = _scattered(weight * shift, first, second, len(stage_yx)) + _STAGE_WEIGHT * stage_yx
    return _conjugate_gradients(pulled, wanted, stage_yx.copy())


def _scattered(
    pull: NDArray[np.float64], first: NDArray[np.int64], second: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    total = np.zeros((count, 2))
    np.add.at(total, second, pull)
    np.add.at(total, first, -pull)
    return total


def _conjugate_gradients(
    apply: object, wanted: NDArray[np.float64], places: NDArray[np.float64]
) -> NDArray[np.float64]:
    assert callable(apply)
    rest = wanted - apply(places)
    step = rest.copy()
    power = float((rest**2).sum())
    for _ in range(20 * len(places)):
        if power < _TOLERANCE:
            break
        moved = apply(step)
        length = power / float((step * moved).sum())
        places = places + length * step
        rest = rest - length * moved
        before, power = power, float((rest**2).sum())
        step = rest + power / before * step
    return places
