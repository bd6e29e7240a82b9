"""What values the tensors inside a network take on representative tiles, and what range int8 gets.

Two passes over the tiles: the first finds each tensor's least and greatest value, the second counts
into bins between them. One tile is in memory at a time. From a distribution three methods make a
range; which is best is decided by the task's own metric, not here:

``minmax``      everything that occurred; outliers coarsen the steps
``percentile``  all but the outermost 1 in 10 000 on each side
``entropy``     the clip that loses least information (Kullback-Leibler), as TensorRT did it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import ExportError
from cellseg.export.onnx_graph.tensors import run_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import onnx
    from numpy.typing import NDArray

__all__ = ["RANGE_METHODS", "Distribution", "Ranges", "collect_distributions", "ranges_for"]

Ranges = dict[str, tuple[float, float]]
"""Least and greatest value that a byte shall tell, of each tensor."""

_BINS = 2048
_TAIL = 1e-4
_LEVELS = 256  # steps of a byte
_SAMPLES = 200_000  # per tensor and tile; more do not move a percentile of 1 in 10 000


@dataclass(frozen=True)
class Distribution:
    """Values of one tensor over all tiles."""

    low: float
    """Least value."""

    high: float
    """Greatest value."""

    counts: NDArray[np.int64]
    """Values in each of equal bins from low to high, shape (2048,)."""

    @property
    def edges(self) -> NDArray[np.float64]:
        """Borders of the bins, shape (2049,)."""
        return np.linspace(self.low, self.high, self.counts.size + 1, dtype=np.float64)


def collect_distributions(
    model: onnx.ModelProto, tiles: Sequence[NDArray[np.uint8]]
) -> dict[str, Distribution]:
    """Run tiles through the network and count the values of every float tensor inside.

    Parameters
    ----------
    model : onnx.ModelProto
        The float graph.
    tiles : sequence of uint8, shape (h, w, 3)
        Representative tiles.

    Raises
    ------
    ExportError
        If a value is not finite: the network overflows.
    """
    if not tiles:
        raise ExportError("int8 needs representative tiles. Received: none.")
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for name, values in _run(model, tiles):
        low[name] = min(low.get(name, np.inf), float(values.min()))
        high[name] = max(high.get(name, -np.inf), float(values.max()))
    bad = [name for name in low if not np.isfinite([low[name], high[name]]).all()]
    if bad:
        raise ExportError(f"Every value in the network must be finite. Received: {bad[0]!r}.")
    counts = {name: np.zeros(_BINS, np.int64) for name in low}
    for name, values in _run(model, tiles):
        counts[name] += _count(values.ravel(), low[name], high[name])
    return {name: Distribution(low[name], high[name], counts[name]) for name in counts}


def _run(
    model: onnx.ModelProto, tiles: Sequence[NDArray[np.uint8]]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield every float tensor inside the network, tile by tile."""
    names = [name for node in model.graph.node for name in node.output]
    for tensors in run_tensors(model, names, tiles):
        for name, values in tensors.items():
            if values.dtype == np.float32:
                yield name, values


def _count(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.int64]:
    sample = values[:: max(1, values.size // _SAMPLES)].astype(np.float64)
    if high == low:
        return np.bincount([0], minlength=_BINS) * sample.size
    bins = ((sample - low) * (_BINS / (high - low))).astype(np.int64)
    return np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)


def _minmax(values: Distribution) -> tuple[float, float]:
    return values.low, values.high


def _percentile(values: Distribution) -> tuple[float, float]:
    below = np.cumsum(values.counts) / values.counts.sum()
    first = int(np.searchsorted(below, _TAIL))  # its bin is the first that is kept
    last = int(np.searchsorted(below, 1.0 - _TAIL))
    return float(values.edges[first]), float(values.edges[last + 1])


def _entropy(values: Distribution) -> tuple[float, float]:
    """Clip magnitudes; a range that begins at 0, as after a rectifier, keeps beginning there."""
    centres = (values.edges[1:] + values.edges[:-1]) / 2
    limit = max(abs(values.low), abs(values.high))
    if limit == 0.0:
        return values.low, values.high
    bins = np.minimum((np.abs(centres) * (_BINS / limit)).astype(np.int64), _BINS - 1)
    magnitudes = np.bincount(bins, weights=values.counts, minlength=_BINS).astype(np.float64)
    magnitudes[0] = magnitudes[1]  # the many zeros behind a rectifier would outweigh the rest
    clip = _best_clip(magnitudes) * limit / _BINS
    return max(values.low, -clip), min(values.high, clip)


def _best_clip(counts: NDArray[np.float64]) -> int:
    """Return how many bins to keep so that 256 levels tell most of what the counts tell."""
    ends = range(_LEVELS, counts.size + 1, 16)
    return min(ends, key=lambda end: _divergence(counts, end))


def _divergence(counts: NDArray[np.float64], end: int) -> float:
    """Kullback-Leibler divergence of the clipped counts from themselves in 256 levels."""
    kept = counts[:end].copy()
    level = np.arange(end) * _LEVELS // end
    filled = kept > 0
    sums = np.bincount(level, weights=kept, minlength=_LEVELS)
    places = np.bincount(level, weights=filled, minlength=_LEVELS)
    coarse = np.where(filled, (sums / np.maximum(places, 1))[level], 0.0)
    kept[-1] += counts[end:].sum()  # what is clipped lands on the last level
    if coarse.sum() == 0.0:
        return float("inf")
    p, q = kept / kept.sum(), coarse / coarse.sum()
    told = (p > 0) & (q > 0)
    lost = float(p[(p > 0) & (q == 0)].sum())
    return float((p[told] * np.log(p[told] / q[told])).sum()) + lost * 10.0


RANGE_METHODS: dict[str, Callable[[Distribution], tuple[float, float]]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "entropy": _entropy,
}


def ranges_for(distributions: dict[str, Distribution], method: str) -> Ranges:
    """Return the range of every tensor by one method of ``RANGE_METHODS``."""
    choose: Any = RANGE_METHODS.get(method)
    if choose is None:
        raise ExportError(
            f"A range method must be one of {[*RANGE_METHODS]}. Received: method={method!r}."
        )
    return {name: choose(values) for name, values in distributions.items()}
