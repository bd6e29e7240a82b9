"""Intervals by the bootstrap: what a mean over images is worth, given these images.

Images are drawn with replacement, not cells: cells of one image are alike, and counting each as
evidence of its own would make intervals far too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Bootstrap", "Estimate"]


@dataclass(frozen=True)
class Estimate:
    """A number and where it lies if images had been drawn anew."""

    value: float
    """What the images give."""
    low: float | None
    """Lower end; None where there are too few images to say."""
    high: float | None
    """Upper end."""

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


@dataclass(frozen=True)
class Bootstrap:
    """Percentile bootstrap over images.

    References
    ----------
    .. [1] Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    """

    replicates: int = 1000
    """How often images are drawn; 0 for no intervals."""
    seed: int = 0
    """The same seed, the same intervals."""
    confidence: float = 0.95
    """Share of replicates within an interval."""

    def estimate(
        self, rows: NDArray[np.float64], measure: Callable[[NDArray[np.float64]], Any]
    ) -> dict[str, Estimate]:
        """Measure what images sum up to, with intervals.

        Parameters
        ----------
        rows : float64, shape (images, k)
            What each image adds.
        measure : callable
            From sums, float64 (..., k), to a dict of arrays (...).
        """
        values = measure(rows.sum(0))
        if len(rows) < 2 or self.replicates == 0:
            return {name: Estimate(float(value), None, None) for name, value in values.items()}
        rng = np.random.default_rng(self.seed)
        drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), self.replicates)
        replicates = measure(drawn @ rows)
        tail = (1 - self.confidence) / 2
        ends = {name: np.quantile(replicates[name], (tail, 1 - tail)).tolist() for name in values}
        return {name: Estimate(float(value), *ends[name]) for name, value in values.items()}
