"""How much of fp32's quality a variant keeps, and how well a model agrees with another's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.bundle import VersusFp32
from cellseg.runtime.metrics import count_error, match_objects
from cellseg.runtime.quality import Prediction, dice_by_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.bundle import ModelCard
    from cellseg.runtime.quality import Runner, Score

__all__ = ["agreement", "versus_fp32"]


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


def agreement(
    runner: Runner,
    references: Sequence[Prediction],
    tiles: Sequence[NDArray[np.uint8]],
    card: ModelCard,
) -> float:
    """Measure how well a model agrees with what another predicted, without any labels.

    Parameters
    ----------
    runner : Runner
        The model.
    references : sequence of Prediction
        Of the other model, one a tile.
    tiles : sequence of uint8, shape (h, w, 3)
        RGB.
    card : ModelCard
        How outputs of both are read.

    Returns
    -------
    float
        The smaller of mean Dice of the classes and mean F1 of the cells, 0..1.
    """
    overlaps, f1 = [], []
    for tile, reference in zip(tiles, references, strict=True):
        prediction = Prediction.from_probabilities(runner(tile), card)
        overlaps.append(np.mean(dice_by_class(prediction.classes, reference.classes, card)))
        if prediction.labels is not None and reference.labels is not None:
            f1.append(match_objects(prediction.labels, reference.labels).f1)
    means = [float(np.mean(values)) for values in (overlaps, f1) if values]
    return min(means)


def _ratio(weighted: list[tuple[float, float, int]]) -> float:
    """Sum of the first by sum of the second, each weighed by the third."""
    values = sum(value * weight for value, _, weight in weighted)
    references = sum(reference * weight for _, reference, weight in weighted)
    return 1.0 if references == 0.0 else values / references
