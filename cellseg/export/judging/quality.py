"""How much of fp32's quality a variant keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.runtime.bundles.bundle import VersusFp32
from cellseg.runtime.evaluation.metrics import count_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cellseg.runtime.evaluation.quality import Score

__all__ = ["versus_fp32"]


def versus_fp32(scores: Iterable[Score], reference: Iterable[Score]) -> VersusFp32:
    """Compare a variant's scores with those of fp32, engine by engine.

    Images count alike: each data set's mean weighs by its number of images. Were the sets to count
    alike, one image that gains by chance could hide what twenty lose.

    Returns
    -------
    VersusFp32
        The worst class and engine.
    """
    known = {(s.quality.dataset, s.quality.engine): s for s in reference}
    pairs: dict[str | None, list[tuple[Score, Score]]] = {}
    for score in scores:
        fp32 = known[score.quality.dataset, score.quality.engine]
        pairs.setdefault(score.quality.engine, []).append((score, fp32))
    kept = [_kept(of_engine) for of_engine in pairs.values()]
    objects = [item.object_f1_ratio for item in kept if item.object_f1_ratio is not None]
    drifts = [item.count_drift for item in kept if item.count_drift is not None]
    return VersusFp32(
        dice_ratio=min(item.dice_ratio for item in kept),
        object_f1_ratio=min(objects, default=None),
        count_drift=max(drifts, default=None),
    )


def _kept(pairs: list[tuple[Score, Score]]) -> VersusFp32:
    """Compare on one engine."""
    dice_ratios = [
        _ratio(
            [
                (score.quality.dice[name], fp32.quality.dice[name], fp32.quality.images)
                for score, fp32 in pairs
                if name in fp32.quality.dice
            ]
        )
        for name in dict.fromkeys(name for _, fp32 in pairs for name in fp32.quality.dice)
    ]
    objects = [
        (score.quality.object_f1, fp32.quality.object_f1, fp32.quality.images)
        for score, fp32 in pairs
        if score.quality.object_f1 is not None and fp32.quality.object_f1 is not None
    ]
    found, expected = (sum(score.found for score in side) for side in zip(*pairs, strict=True))
    return VersusFp32(
        dice_ratio=round(min(dice_ratios, default=1.0), 5),
        object_f1_ratio=round(_ratio(objects), 5) if objects else None,
        count_drift=round(count_error(found, expected), 5) if objects else None,
    )


def _ratio(weighted: list[tuple[float, float, int]]) -> float:
    """Sum of the first by sum of the second, each weighed by the third."""
    values = sum(value * weight for value, _, weight in weighted)
    references = sum(reference * weight for _, reference, weight in weighted)
    return 1.0 if references == 0.0 else values / references
