"""How far a foreground probability can be trusted: calibration, and what each threshold gives.

Both come from two histograms, of foreground and of background pixels, so that any number of images
takes a few kilobytes.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Reliability"]

_STEPS = 1000
_BINS = 20


class Reliability:
    """Histograms of the probability of foreground, by the truth."""

    def __init__(self) -> None:
        self._true = np.zeros(_STEPS, np.int64)
        self._false = np.zeros(_STEPS, np.int64)
        self._sums = np.zeros(_BINS)

    def add(self, probability: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        """Count the pixels of one image; both (H, W)."""
        place = np.clip((probability * _STEPS).astype(np.int64), 0, _STEPS - 1)
        self._true += np.bincount(place[truth], minlength=_STEPS)
        self._false += np.bincount(place[~truth], minlength=_STEPS)
        weights = probability.astype(np.float64).ravel()
        self._sums += np.bincount(place.ravel() * _BINS // _STEPS, weights, minlength=_BINS)

    def calibration(self) -> list[dict[str, float]]:
        """Bins that hold pixels: mean probability that was said, share that was true, pixels."""
        true = self._true.reshape(_BINS, -1).sum(1)
        both = true + self._false.reshape(_BINS, -1).sum(1)
        return [
            {
                "said": float(self._sums[i] / both[i]),
                "true": float(true[i] / both[i]),
                "pixels": int(both[i]),
            }
            for i in np.flatnonzero(both)
        ]

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |said - true| over pixels.

        References
        ----------
        .. [1] Guo et al., "On calibration of modern neural networks", ICML 2017.
        """
        bins = self.calibration()
        total = sum(item["pixels"] for item in bins)
        apart = sum(item["pixels"] * abs(item["said"] - item["true"]) for item in bins)
        return apart / max(total, 1)

    def thresholds(self) -> list[dict[str, float]]:
        """Dice, precision and recall over all pixels at each threshold 0.01..0.99."""
        kept_true = self._true[::-1].cumsum()[::-1]
        kept_false = self._false[::-1].cumsum()[::-1]
        wanted = int(self._true.sum())
        rows = []
        for percent in range(1, 100):
            index = percent * _STEPS // 100
            hits, wrong = int(kept_true[index]), int(kept_false[index])
            rows.append(
                {
                    "threshold": percent / 100,
                    "dice": _ratio(2 * hits, hits + wrong + wanted),
                    "precision": _ratio(hits, hits + wrong),
                    "recall": _ratio(hits, wanted),
                }
            )
        return rows

    def summary(self) -> dict[str, Any]:
        """Everything as numbers."""
        rows = self.thresholds()
        return {
            "calibration": {"error": self.error, "bins": self.calibration()},
            "thresholds": {"best": max(rows, key=lambda row: row["dice"]), "sweep": rows},
        }

    def write_thresholds(self, path: Path) -> None:
        """Write the sweep as a table."""
        rows = self.thresholds()
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({key: round(value, 5) for key, value in row.items()} for row in rows)


def _ratio(part: int, whole: int) -> float:
    """Return a share; 1 where there is nothing to have a share of."""
    return 1.0 if whole == 0 else part / whole
