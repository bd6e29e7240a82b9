"""What many images score together, with intervals.

Objects of all images are pooled, as StarDist's ``matching_dataset`` does by default; what carries
``per_image`` in its name is the mean of the images' own scores, as the Data Science Bowl ranked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.evaluation.instances import THRESHOLDS, InstanceScore
from cellseg.runtime.evaluation.intervals import Bootstrap, Estimate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["ALL", "InstanceSummary", "summarize_instances"]

ALL = "all"
"""Name under which several data sets are summed up."""

_K = len(THRESHOLDS)
_AVERAGED = ("f1_per_image", "ap_per_image", "pq_per_image", "count_error_per_image")
_PARTIAL = ("adapted_rand_error", "vi_split", "vi_merge")


@dataclass(frozen=True)
class InstanceSummary:
    """What the images of one data set score."""

    source: str
    """Its name."""
    images: int
    """Number of images."""
    predicted: int
    """Objects found."""
    truth: int
    """Objects there are."""
    splits: int
    """True objects found as two or more."""
    merges: int
    """Predicted objects that are two or more."""
    estimates: dict[str, Estimate]
    """Scores by name; those of a threshold end in it: ``f1_0.50``."""

    def at(self, metric: str, threshold: float) -> Estimate:
        """Return precision, recall, f1 or ap at one of the thresholds."""
        return self.estimates[f"{metric}_{threshold:.2f}"]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values: counts, scores, and a list with one entry a threshold."""
        plain = {name: asdict(found) for name, found in self.estimates.items() if "_0." not in name}
        thresholds = [
            {"iou": iou} | {name: asdict(self.at(name, iou)) for name in _BY_THRESHOLD}
            for iou in THRESHOLDS
        ]
        counts = {
            "images": self.images,
            "objects_found": self.predicted,
            "objects_true": self.truth,
            "splits": self.splits,
            "merges": self.merges,
        }
        return counts | plain | {"thresholds": thresholds}


_BY_THRESHOLD = ("ap", "precision", "recall", "f1")


def summarize_instances(
    scores: Sequence[InstanceScore], bootstrap: Bootstrap | None = None
) -> list[InstanceSummary]:
    """Sum up the images of each data set, and all of them where there are several.

    Parameters
    ----------
    scores : sequence of InstanceScore
        At least one.
    bootstrap : Bootstrap, optional
        How intervals are made.
    """
    groups: dict[str, list[InstanceScore]] = {}
    for score in scores:
        groups.setdefault(score.source, []).append(score)
    if len(groups) > 1:
        groups[ALL] = list(scores)
    how = bootstrap or Bootstrap()
    return [_summary(name, group, how) for name, group in groups.items()]


def _summary(source: str, group: Sequence[InstanceScore], bootstrap: Bootstrap) -> InstanceSummary:
    return InstanceSummary(
        source=source,
        images=len(group),
        predicted=sum(score.predicted for score in group),
        truth=sum(score.truth for score in group),
        splits=sum(score.splits for score in group),
        merges=sum(score.merges for score in group),
        estimates=bootstrap.estimate(_rows(group), _measure),
    )


def _rows(group: Iterable[InstanceScore]) -> NDArray[np.float64]:
    """Return what each image adds to the sums that `_measure` reads, a row an image."""
    return np.array([_row(score) for score in group], np.float64)


def _row(score: InstanceScore) -> list[float]:
    pooled = [score.predicted, score.truth, score.pq_matched, score.pq_iou]
    pooled += [score.splits, score.merges, *score.matched]
    averaged = [1.0, score.f1(), score.ap, score.pq, score.count_error]
    known = [getattr(score, name) for name in _PARTIAL]
    has_truth = 0.0 if known[0] is None else 1.0
    return [*pooled, *averaged, has_truth, *(value or 0.0 for value in known)]


def _measure(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Scores from the sums over images, for any number of replicates at once."""
    predicted, truth, pq_matched, pq_iou, splits, merges = np.moveaxis(sums[..., :6], -1, 0)
    images, *averaged = np.moveaxis(sums[..., 6 + _K : 7 + _K + len(_AVERAGED)], -1, 0)
    with_truth, *partial = np.moveaxis(sums[..., 7 + _K + len(_AVERAGED) :], -1, 0)
    matched = sums[..., 6 : 6 + _K]
    ap = _share(matched, (predicted + truth)[..., None] - matched)
    found: dict[str, NDArray[np.float64]] = {
        "ap": ap.mean(-1),
        "pq": _share(2 * pq_iou, predicted + truth),
        "sq": _share(pq_iou, pq_matched, where_none=0.0),
        "rq": _share(2 * pq_matched, predicted + truth),
        "count_error": _count_error(np.abs(predicted - truth), truth),
        "count_bias": _count_error(predicted - truth, truth),
        "split_rate": _share(splits, truth, where_none=0.0),
        "merge_rate": _share(merges, predicted, where_none=0.0),
    }
    found |= {name: _share(value, images) for name, value in zip(_AVERAGED, averaged, strict=True)}
    found |= {
        name: _share(value, with_truth, where_none=0.0)
        for name, value in zip(_PARTIAL, partial, strict=True)
    }
    for index, iou in enumerate(THRESHOLDS):
        hits = matched[..., index]
        found |= {
            f"ap_{iou:.2f}": ap[..., index],
            f"precision_{iou:.2f}": _share(hits, predicted, where_none=truth == 0),
            f"recall_{iou:.2f}": _share(hits, truth, where_none=predicted == 0),
            f"f1_{iou:.2f}": _share(2 * hits, predicted + truth),
        }
    return found


def _share(part: Any, whole: Any, where_none: Any = 1.0) -> NDArray[np.float64]:
    """Divide; where the whole is 0, return what there is to say of nothing."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    none = np.broadcast_to(np.asarray(where_none, float), part.shape)
    return np.where(whole == 0, none, part / np.where(whole == 0, 1.0, whole))


def _count_error(difference: Any, truth: Any) -> NDArray[np.float64]:
    """Relative to the truth; without one, any object found is an error of 1."""
    return _share(difference, truth, where_none=np.sign(difference))
