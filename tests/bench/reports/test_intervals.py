"""Intervals hold what they promise: on noise of known size, and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cellseg.bench.reports.intervals import (
    estimate,
    latency,
    percentile_samples,
    rate,
    share,
    t_factor,
)


@pytest.mark.parametrize("percentile", [50, 90, 99])
def test_the_fewest_samples_let_the_slowest_bound_the_percentile(percentile: int) -> None:
    count, p = percentile_samples(percentile), percentile / 100
    assert 1 - p**count >= 0.95 > 1 - p ** (count - 1)


def test_a_percentile_without_enough_samples_is_not_stated() -> None:
    found = latency([[1.0, 2.0, 3.0]] * 10)
    assert found is not None
    assert found.p90 is not None
    assert found.p99 is None


def test_no_samples_are_no_latency() -> None:
    assert latency([[], []]) is None


def test_an_outlier_is_counted_and_kept() -> None:
    found = latency([[1.0, 1.1, 0.9, 1.0, 1.05, 50.0]])
    assert found is not None
    assert (found.outliers, found.slowest) == (1, 50.0)
    assert found.mean > 9


def test_the_interval_covers_the_median_of_rounds_that_differ() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        levels = rng.normal(100, 5, 5)  # what differs from process to process
        rounds = [level + rng.normal(0, 1, 20) for level in levels]
        found = estimate(rounds, 50)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 100 <= found.high
    assert hits >= 52  # 57 are expected of a 95 % interval; without rounds it would be about 20


def test_widening_is_that_of_students_t() -> None:
    for rounds in (2, 5, 21, 30):
        t = stats.t.ppf(0.975, min(rounds - 1, 20) if rounds <= 21 else 10**6)
        expected = t / stats.norm.ppf(0.975) * np.sqrt(rounds / (rounds - 1))
        assert t_factor(rounds) == pytest.approx(expected, rel=1e-3)
    assert t_factor(1) == 1.0


def test_an_interval_never_leads_below_zero() -> None:
    found = estimate([np.array([1.0, 100.0]), np.array([1.0, 2.0])], 50)
    assert found.low is not None
    assert found.low > 0


def test_a_rate_has_the_interval_of_its_rounds() -> None:
    found = rate([10, 11, 9], [1.0, 1.0, 1.0])
    low, high = stats.t.interval(0.95, 2, loc=10, scale=stats.sem([10, 11, 9]))
    assert (found.value, found.low, found.high) == pytest.approx((10, low, high), rel=1e-3)
    assert rate([10], [2.0]).low is None


@pytest.mark.parametrize(("hits", "of"), [(0, 10), (3, 20), (50, 50)])
def test_a_share_has_wilsons_interval(hits: int, of: int) -> None:
    found = share(hits, of)
    expected = stats.binomtest(hits, of).proportion_ci(method="wilson")
    assert found.low == pytest.approx(expected.low, abs=1e-4)
    assert found.high == pytest.approx(expected.high, abs=1e-4)
