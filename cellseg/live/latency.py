"""Percentiles of the newest latencies, from a ring of fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

import numpy as np

__all__ = ["LatencyRing", "LatencyStats"]

_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class LatencyStats:
    """Percentiles of exposure-to-result times; None before the first result."""

    p50: float | None
    """Median, milliseconds."""

    p95: float | None
    """95th percentile, milliseconds."""

    p99: float | None
    """99th percentile, milliseconds."""

    samples: int
    """How many times they are of."""

    def as_dict(self) -> dict[str, float | None]:
        """Return the percentiles as JSON values, milliseconds to the microsecond."""
        found = {"p50": self.p50, "p95": self.p95, "p99": self.p99}
        return {name: None if ms is None else round(ms, 3) for name, ms in found.items()}


class LatencyRing:
    """Keeps the newest samples, whatever their number; adding one allocates nothing.

    Parameters
    ----------
    size : int
        How many are kept.

    Examples
    --------
    >>> ring = LatencyRing(size=100)
    >>> for ms in range(1, 201):
    ...     ring.add(float(ms))
    >>> ring.stats().p50, ring.stats().p99, ring.stats().samples
    (150.0, 199.0, 100)
    """

    def __init__(self, size: int = 4096) -> None:
        self._samples = np.zeros(size, np.float64)
        self._added = 0
        self._lock = Lock()

    def add(self, ms: float) -> None:
        """Keep a sample, milliseconds; the oldest goes."""
        with self._lock:
            self._samples[self._added % len(self._samples)] = ms
            self._added += 1

    def stats(self) -> LatencyStats:
        """Return percentiles of what is kept: samples that occurred, none in between."""
        with self._lock:
            kept = self._samples[: self._added].copy()
        if not kept.size:
            return LatencyStats(None, None, None, 0)
        p50, p95, p99 = np.percentile(kept, _PERCENTILES, method="inverted_cdf")
        return LatencyStats(float(p50), float(p95), float(p99), len(kept))
