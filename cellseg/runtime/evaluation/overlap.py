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

_BAND_PX = 1 << 22
_MOST_KEYS = 1 << 63


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
        keys, span, counts = _joint_counts(predicted, truth)
        rows, columns = np.divmod(keys, span)
        found, predicted_px = _numbered(rows, counts)
        true, truth_px = _numbered(columns, counts)
        both = (found >= 0) & (true >= 0)
        return cls(predicted_px, truth_px, found[both], true[both], counts[both])

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


def _joint_counts(
    predicted: NDArray[Any], truth: NDArray[Any]
) -> tuple[NDArray[np.uint64], np.uint64, NDArray[np.int64]]:
    """Count each pair of ids that some pixel has: ``predicted * span + truth``, span, pixels.

    Bands of rows are counted one by one, and runs of equal pairs at once: a whole slide takes
    little more memory than its maps.
    """
    predicted, truth = predicted.reshape(-1), truth.reshape(-1)
    if (int(predicted.max(initial=0)) + 1) * (int(truth.max(initial=0)) + 1) > _MOST_KEYS:
        predicted, truth = _renumbered(predicted), _renumbered(truth)
    span = np.uint64(int(truth.max(initial=0)) + 1)
    keys: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    counts: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for start in range(0, predicted.size, _BAND_PX):
        band = slice(start, start + _BAND_PX)
        joint = predicted[band].astype(np.uint64) * span + truth[band].astype(np.uint64)
        ends = np.append(np.flatnonzero(joint[1:] != joint[:-1]), joint.size - 1)
        found, sums = _summed(joint[ends], np.diff(ends, prepend=-1))
        keys.append(found)
        counts.append(sums)
    found, sums = _summed(np.concatenate(keys), np.concatenate(counts))
    return found, span, sums


def _renumbered(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return a label map with ids 1..n in their order; 0 stays background."""
    ids, inverse = np.unique(labels, return_inverse=True)
    return np.asarray(inverse.reshape(-1) + int(ids[0] != 0), np.int64)


def _summed(
    keys: NDArray[np.uint64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Sum the counts of equal keys."""
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if keys.size else order
    return keys[starts], np.add.reduceat(counts, starts) if keys.size else counts


def _numbered(
    ids: NDArray[np.uint64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Object index of each pair, -1 for background, and the area of each object."""
    known, inverse = np.unique(ids, return_inverse=True)
    has_ground = int(known.size > 0 and known[0] == 0)
    areas = np.bincount(inverse.reshape(-1), counts, known.size).astype(np.int64)
    return inverse.reshape(-1).astype(np.int64) - has_ground, areas[has_ground:]
