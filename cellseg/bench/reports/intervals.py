"""Percentiles and rates with 95 % intervals, from samples that come in rounds.

Samples of one round resemble each other more than those of different rounds: the process, the
memory it got and the neighbours are the same. So rounds are drawn first and samples within them
second (two-level bootstrap [1]_), and the interval is widened for the few rounds there are, as
Student's t widens one of few values.

References
----------
.. [1] T. Kalibera, R. Jones, "Rigorous benchmarking in reasonable time", ISMM 2013.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cellseg.bench.record import Estimate, Latency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "draw_percentiles",
    "estimate",
    "latency",
    "percentile_samples",
    "rate",
    "share",
    "t_factor",
]

DRAWS = 1000
_DRAWN_AT_ONCE = 500_000  # samples
_CONFIDENCE = 0.95
_T_975 = (  # Student's t, 97.5 %, by degrees of freedom from 1
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
_NORMAL_975 = 1.960


def percentile_samples(percentile: float) -> int:
    """Return the fewest samples with which a percentile can be stated.

    So many that with 95 % confidence the slowest of them lies beyond it.

    Examples
    --------
    >>> [percentile_samples(p) for p in (50, 90, 99)]
    [5, 29, 299]
    """
    return math.ceil(math.log(1 - _CONFIDENCE) / math.log(percentile / 100))


def t_factor(rounds: int) -> float:
    """Return by how much an interval from so few rounds is widened."""
    freedom = rounds - 1
    if freedom < 1:
        return 1.0
    t = _T_975[freedom - 1] if freedom <= len(_T_975) else _NORMAL_975
    return t / _NORMAL_975 * math.sqrt(rounds / freedom)


def draw_percentiles(
    rounds: Sequence[NDArray[np.float64]], percentile: float, seed: int = 0
) -> NDArray[np.float64]:
    """Return the percentile of each bootstrap draw, float64 (DRAWS,).

    Every draw takes as many rounds as there are, and the mean number of samples from each of them:
    rounds count alike.
    """
    rng = np.random.default_rng(seed)
    each = max(1, round(sum(samples.size for samples in rounds) / len(rounds)))
    sizes = np.array([samples.size for samples in rounds])
    starts, every = np.cumsum(sizes) - sizes, np.concatenate(rounds)
    at_once = max(1, _DRAWN_AT_ONCE // every.size)
    drawn = []
    for first in range(0, DRAWS, at_once):
        count = min(at_once, DRAWS - first)
        chosen = rng.integers(len(rounds), size=(count, len(rounds)))[..., np.newaxis]
        inside = rng.random((count, len(rounds), each)) * sizes[chosen]
        picked = every[starts[chosen] + inside.astype(np.int64)].reshape(count, -1)
        drawn.append(np.percentile(picked, percentile, axis=1))
    return np.concatenate(drawn)


def estimate(rounds: Sequence[NDArray[np.float64]], percentile: float) -> Estimate:
    """Return a percentile of all samples with its interval.

    Parameters
    ----------
    rounds : sequence of float64, shape (n,)
        Samples above 0, none of the rounds empty.
    percentile : float
        0 to 100.
    """
    value = float(np.percentile(np.concatenate(rounds), percentile))
    # On a logarithmic scale, so that widening never leads below zero.
    off = t_factor(len(rounds)) * np.log(draw_percentiles(rounds, percentile) / value)
    low, high = np.quantile(off, (0.025, 0.975))
    return Estimate(
        value=value, low=value * math.exp(min(0.0, low)), high=value * math.exp(max(0.0, high))
    )


def latency(rounds: Sequence[Sequence[float]]) -> Latency | None:
    """Summarize latencies; None if there is not one sample."""
    arrays = [np.asarray(samples, np.float64) for samples in rounds if len(samples)]
    if not arrays:
        return None
    every = np.concatenate(arrays)
    low, high = np.quantile(every, (0.25, 0.75))
    return Latency(
        samples=every.size,
        mean=float(every.mean()),
        p50=_percentile(arrays, 50),
        p90=_percentile(arrays, 90),
        p99=_percentile(arrays, 99),
        slowest=float(every.max()),
        outliers=int(np.count_nonzero(every > high + 3 * (high - low))),
    )


def _percentile(rounds: Sequence[NDArray[np.float64]], percentile: float) -> Estimate | None:
    if sum(samples.size for samples in rounds) < percentile_samples(percentile):
        return None
    return estimate(rounds, percentile)


def rate(work: Sequence[float], seconds: Sequence[float]) -> Estimate:
    """Return work a second over all rounds; its interval is Student's of the rounds' own rates."""
    value = sum(work) / sum(seconds)
    rates = np.divide(work, seconds)
    if rates.size < 2:
        return Estimate(value=value)
    freedom = rates.size - 1
    t = _T_975[freedom - 1] if freedom <= len(_T_975) else _NORMAL_975
    half = t * float(rates.std(ddof=1)) / math.sqrt(rates.size)
    return Estimate(value=value, low=max(0.0, value - half), high=value + half)


def share(hits: int, of: int) -> Estimate:
    """Return a share with Wilson's interval.

    Examples
    --------
    >>> share(0, 100).low, round(share(0, 100).high, 3)
    (0.0, 0.037)
    """
    z2 = _NORMAL_975**2
    p = hits / of
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = _NORMAL_975 * math.sqrt(p * (1 - p) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return Estimate(value=p, low=max(0.0, round(middle - half, 12)), high=min(1.0, middle + half))
