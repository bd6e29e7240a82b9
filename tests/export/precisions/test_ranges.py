"""Ranges for int8 hold what the tensors hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg.errors import ExportError
from cellseg.export.precisions.ranges import (
    RANGE_METHODS,
    Distribution,
    collect_distributions,
    ranges_for,
)
from tests.export.graphs import Sketch, noise

# A few bins with some values in each: a spike, a gap, a tail.
counts = st.dictionaries(st.integers(0, 2047), st.integers(1, 10**6), min_size=1, max_size=5)


def distribution(low: float, high: float, seed: int = 0) -> Distribution:
    rng = np.random.default_rng(seed)
    values = np.clip(np.abs(rng.normal(0, (high - low) / 30, 100_000)) + low, low, high)
    return Distribution(low, high, np.histogram(values, 2048, (low, high))[0])


def test_every_tensor_inside_is_counted_over_all_tiles() -> None:
    model = Sketch().by_constant("Mul", 1 / 255).conv(4).node("Relu").model()
    found = collect_distributions(model, [*noise(3, 8, 8)])
    assert set(found) == {"float", "mul", "conv", "relu", "probabilities"}
    assert found["float"].counts.sum() == 3 * 8 * 8 * 3
    assert (found["float"].low, found["float"].high) == (0.0, 255.0)
    assert found["relu"].low >= 0.0


@pytest.mark.parametrize("method", RANGE_METHODS)
@pytest.mark.parametrize(("low", "high"), [(0.0, 10.0), (-10.0, 10.0), (-1.0, 20.0), (3.0, 3.0)])
def test_range_lies_within_what_occurred(method: str, low: float, high: float) -> None:
    first, last = RANGE_METHODS[method](distribution(low, max(high, low + 1e-9)))
    assert low <= first <= last <= max(high, low + 1e-9)


def test_minmax_holds_everything_and_percentile_all_but_the_tails() -> None:
    values = distribution(0.0, 100.0)
    assert RANGE_METHODS["minmax"](values) == (0.0, 100.0)
    _, last = RANGE_METHODS["percentile"](values)
    kept = values.counts[: int(np.ceil(last / 100 * 2048))].sum() / values.counts.sum()
    assert 0.9999 <= kept < 1.0


def test_entropy_clips_a_long_tail_and_keeps_an_even_spread() -> None:
    long_tail = distribution(0.0, 100.0)
    even = Distribution(0.0, 100.0, np.full(2048, 50))
    assert RANGE_METHODS["entropy"](long_tail)[1] < 40.0
    assert RANGE_METHODS["entropy"](even)[1] > 95.0


@given(counts)
def test_percentile_range_always_exists(counts: dict[int, int]) -> None:
    filled = np.zeros(2048, np.int64)
    filled[list(counts)] = list(counts.values())
    first, last = RANGE_METHODS["percentile"](Distribution(0.0, 1.0, filled))
    assert 0.0 <= first < last <= 1.0


def test_network_that_overflows_is_refused() -> None:
    model = Sketch().by_constant("Mul", 1e38).by_constant("Mul", 1e38).model()
    with pytest.raises(ExportError, match="must be finite"):
        collect_distributions(model, [*noise(1, 4, 4)])


def test_no_tiles_and_unknown_methods_are_refused() -> None:
    with pytest.raises(ExportError, match="needs representative tiles"):
        collect_distributions(Sketch().conv(2).model(), [])
    with pytest.raises(ExportError, match="must be one of"):
        ranges_for({}, "guess")
