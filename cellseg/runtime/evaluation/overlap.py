"""Which objects of two label maps share pixels: what every score of instances is made from.

Only pairs that do share a pixel are kept, so that a slide with a million cells needs a few million
numbers, not a million squared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Overlap"]


@dataclass(frozen=True)
class Overlap:
    """Pixels that predicted and true objects have, and have in common.

    Objects are numbered 0..n-1 in the order of their ids.
    """

    predicted_px: NDArray[np.int64]
    """Area of each predicted object, shape (p,)."""
    truth_px: NDArray[np.int64]
    """Area of each true object, shape (t,)."""
    predicted: NDArray[np.int64]
    """Predicted object of each pair that shares pixels, shape (n,)."""
    truth: NDArray[np.int64]
    """True object of each such pair, shape (n,)."""
    shared_px: NDArray[np.int64]
    """Pixels that each pair shares, > 0, shape (n,)."""

    @classmethod
    def of(cls, predicted: NDArray[Any], truth: NDArray[Any]) -> Overlap:
        """Compare two label maps.

        Parameters
        ----------
        predicted, truth : int, shape (H, W)
            Label maps, 0 = background; ids need not be consecutive.

        Raises
        ------
        ValueError
            If their shapes differ.
        """
        if predicted.shape != truth.shape:
            raise ValueError(
                "Label maps that are compared have one shape. "
                f"Received: predicted={predicted.shape}, truth={truth.shape}."
            )
        rows, predicted_px = _numbered(predicted)
        columns, truth_px = _numbered(truth)
        both = (rows >= 0) & (columns >= 0)
        keys, shared_px = np.unique(rows[both] * len(truth_px) + columns[both], return_counts=True)
        pairs = np.divmod(keys, max(1, len(truth_px)))
        return cls(predicted_px, truth_px, *pairs, shared_px.astype(np.int64))

    @cached_property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair, shape (n,)."""
        union = self.predicted_px[self.predicted] + self.truth_px[self.truth] - self.shared_px
        return np.asarray(self.shared_px / union, np.float64)

    def count_matches(self, min_iou: float) -> int:
        """Return how many objects have a partner, one to one, with an IoU of at least ``min_iou``.

        Notes
        -----
        From 0.5 on no assignment has to be solved. Two partners of an object share no pixel, and
        with IoU >= 0.5 each of them must cover half of the union; so both have exactly 0.5, lie
        within the object, and have no other partner. Pairs thus form stars, each worth one match,
        and stars are counted by what their ends have in excess.

        Raises
        ------
        ValueError
            If ``min_iou`` is below 0.5.
        """
        if min_iou < 0.5:
            raise ValueError(
                f"min_iou must be >= 0.5, or matches are not unique. Received: {min_iou}."
            )
        near = self.iou >= min_iou
        ends = (np.unique(side[near]).size for side in (self.predicted, self.truth))
        return sum(ends) - int(np.count_nonzero(near))


def _numbered(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Object index of each pixel, -1 for background, and the area of each object."""
    flat = labels.reshape(-1)
    index = np.full(flat.size, -1, np.int64)
    inside = np.flatnonzero(flat)
    _, inverse, counts = np.unique(flat[inside], return_inverse=True, return_counts=True)
    index[inside] = inverse.reshape(-1)
    return index, counts.astype(np.int64)
