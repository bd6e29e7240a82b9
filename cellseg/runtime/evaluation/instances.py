"""What one image scores: matches at ten IoU thresholds, panoptic quality, splits and merges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.evaluation.overlap import Overlap

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["THRESHOLDS", "InstanceScore", "score_instances"]

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU from which on two objects match: 0.5, 0.55, ... 0.95."""

_MOST = 0.5
"""Share of an object's pixels above which it lies *mostly* in another."""


@dataclass(frozen=True)
class InstanceScore:
    """What one image scores.

    References
    ----------
    .. [1] StarDist, ``stardist/matching.py``: one-to-one matches with IoU >= threshold, and
       tp / (tp + fp + fn), also known as average precision (Data Science Bowl 2018).
    .. [2] Kirillov et al., "Panoptic Segmentation", CVPR 2019, eq. 1: matches with IoU > 0.5;
       PQ = SQ * RQ.
    .. [3] Maska et al., Bioinformatics 30, 1609-1617 (2014), section 2.5: an object is detected by
       the segment that covers more than half of it. Merges and splits are counted by that rule.
    .. [4] scikit-image, ``skimage.metrics``: ``adapted_rand_error`` and
       ``variation_of_information``, both with ``ignore_labels=(0,)``: on true objects only.
    """

    source: str
    """Data set that the image belongs to."""
    stem: str
    """File name without suffix."""
    predicted: int
    """Objects found."""
    truth: int
    """Objects there are."""
    matched: tuple[int, ...]
    """Objects matched one to one at each of `THRESHOLDS`."""
    pq_matched: int
    """Pairs with IoU > 0.5, for panoptic quality."""
    pq_iou: float
    """Sum of their IoU."""
    splits: int
    """True objects in which two or more predicted ones mostly lie."""
    merges: int
    """Predicted objects in which two or more true ones mostly lie."""
    adapted_rand_error: float | None
    """1 - F of the Rand index over the pixels of true objects; None where there are none."""
    vi_split: float | None
    """Bits of the prediction that the truth does not explain, over the same pixels."""
    vi_merge: float | None
    """Bits of the truth that the prediction does not explain, over the same pixels."""

    def f1(self, threshold: int = 0) -> float:
        """2 tp / (2 tp + fp + fn) at one of `THRESHOLDS`; 1 where no side has an object."""
        both = self.predicted + self.truth
        return 1.0 if both == 0 else 2 * self.matched[threshold] / both

    @property
    def ap(self) -> float:
        """Mean over `THRESHOLDS` of tp / (tp + fp + fn); 1 where no side has an object."""
        either = self.predicted + self.truth - np.array(self.matched)
        return 1.0 if either[0] == 0 else float(np.mean(np.array(self.matched) / either))

    @property
    def pq(self) -> float:
        """Panoptic quality; 1 where no side has an object."""
        both = self.predicted + self.truth
        return 1.0 if both == 0 else 2 * self.pq_iou / both

    @property
    def count_error(self) -> float:
        """|predicted - true| / true; see `cellseg.runtime.evaluation.metrics.count_error`."""
        from cellseg.runtime.evaluation.metrics import count_error

        return count_error(self.predicted, self.truth)


def score_instances(
    predicted: NDArray[Any], truth: NDArray[Any], stem: str = "", source: str = ""
) -> InstanceScore:
    """Score the label map of one image.

    Parameters
    ----------
    predicted, truth : int, shape (H, W)
        Label maps, 0 = background. Pixels of one number are one object, connected or not.
    stem, source : str
        Name of the image and of its data set.

    Examples
    --------
    >>> truth = np.array([[1, 1, 1, 1, 0, 2, 2]])
    >>> found = score_instances(np.array([[5, 5, 5, 0, 0, 6, 6]]), truth)
    >>> found.matched
    (2, 2, 2, 2, 2, 2, 1, 1, 1, 1)
    >>> found.pq
    0.875
    """
    overlap = Overlap.of(predicted, truth)
    unique = overlap.iou > 0.5
    rand, split_bits, merge_bits = _agreement(overlap)
    return InstanceScore(
        source=source,
        stem=stem,
        predicted=len(overlap.predicted_px),
        truth=len(overlap.truth_px),
        matched=tuple(overlap.count_matches(threshold) for threshold in THRESHOLDS),
        pq_matched=int(np.count_nonzero(unique)),
        pq_iou=float(overlap.iou[unique].sum()),
        splits=_hosts_of_many(
            overlap.truth, overlap.shared_px, overlap.predicted_px[overlap.predicted]
        ),
        merges=_hosts_of_many(
            overlap.predicted, overlap.shared_px, overlap.truth_px[overlap.truth]
        ),
        adapted_rand_error=rand,
        vi_split=split_bits,
        vi_merge=merge_bits,
    )


def _hosts_of_many(
    host: NDArray[np.int64], shared_px: NDArray[np.int64], guest_px: NDArray[np.int64]
) -> int:
    """Count objects in which two or more of the other side mostly lie."""
    guests = np.bincount(host[shared_px > _MOST * guest_px])
    return int(np.count_nonzero(guests >= 2))


def _agreement(overlap: Overlap) -> tuple[float | None, float | None, float | None]:
    """Adapted Rand error and the two halves of the variation of information."""
    true = overlap.truth_px.astype(np.float64)
    total = true.sum()
    if total == 0:
        return None, None, None
    missed = true - np.bincount(overlap.truth, overlap.shared_px, len(true))
    found = np.bincount(overlap.predicted, overlap.shared_px, len(overlap.predicted_px))
    # What was missed belongs to one more segment of the prediction, its background.
    joint = np.concatenate([overlap.shared_px, missed])
    segments = np.append(found, missed.sum())
    pairs = [np.square(part).sum() - total for part in (joint, true, segments)]
    rand = 0.0 if pairs[1] + pairs[2] == 0 else 1.0 - 2.0 * pairs[0] / (pairs[1] + pairs[2])
    both, of_truth, of_segments = (_entropy(part / total) for part in (joint, true, segments))
    return float(rand), max(0.0, both - of_truth), max(0.0, both - of_segments)


def _entropy(shares: NDArray[np.float64]) -> float:
    """Shannon entropy in bits."""
    some = shares[shares > 0]
    return float(-(some * np.log2(some)).sum())
