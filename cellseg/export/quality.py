"""What a variant is worth: Dice, object F1 and count error on labelled images, by real engines.

Whole images are run, their border repeated up to the stride, one engine opened for each size. The
same numbers serve three ends: the manifest's evidence, the share of fp32 that a variant keeps, and
the choice between int8 files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cellseg.runtime.bundle import Quality, VersusFp32
from cellseg.runtime.engines import ENGINES, Engine, EngineOptions
from cellseg.runtime.metrics import count_error, dice, match_objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cellseg.export.labelled import LabelledImage
    from cellseg.runtime.bundle import ModelCard

__all__ = [
    "ModelRunner",
    "Prediction",
    "Runner",
    "Score",
    "agreement",
    "score_images",
    "versus_fp32",
]


class Runner(Protocol):
    """A model that runs on whole images."""

    @property
    def engine_name(self) -> str:
        """What computes, for the manifest."""
        ...

    def __call__(self, image: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Map uint8 (H, W, 3) to float32 (H, W, C)."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class ModelRunner:
    """Runs one model on images of any size, keeping the engine of the last size open.

    Parameters
    ----------
    model : bytes
        The file.
    card : ModelCard
        Channels and stride.
    engine, precision : str
        What runs it, and at which precision.
    threads : int
        Threads to compute with.
    """

    def __init__(
        self, model: bytes, card: ModelCard, engine: str, precision: str, threads: int
    ) -> None:
        self._adapter = ENGINES[engine].load(engine)
        self._model, self._card = model, card
        self._precision, self._threads = precision, threads
        self._engine: Engine | None = None
        self.engine_name = engine

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 (H, W, 3) to float32 (H, W, C)."""
        height, width = image.shape[:2]
        rows, cols = (-size % self._card.stride for size in (height, width))
        padded = np.pad(image, ((0, rows), (0, cols), (0, 0)), mode="edge")
        engine = self._engine_for((padded.shape[0], padded.shape[1]))
        return engine.infer(padded)[:height, :width]

    def close(self) -> None:
        """Release the engine."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def _engine_for(self, tile_hw: tuple[int, int]) -> Engine:
        if self._engine is None or self._engine.tile_hw != tile_hw:
            self.close()
            options = EngineOptions(
                self._precision, tile_hw, len(self._card.channels), self._threads
            )
            self._engine = self._adapter(self._model, options)
        assert self._engine is not None
        return self._engine


@dataclass(frozen=True)
class Prediction:
    """What a bundle says of an image: classes and cells."""

    classes: NDArray[np.uint8]
    """Class index of each pixel, shape (H, W)."""

    labels: NDArray[np.uint32] | None
    """Instance ids, shape (H, W); None for a model without instances."""

    @classmethod
    def from_probabilities(cls, probabilities: NDArray[np.float32], card: ModelCard) -> Prediction:
        """Read the output channels as inference does."""
        from cellseg.runtime.cells import instances_from_probabilities
        from cellseg.runtime.decide import ClassRule

        rule = card.head.instances
        labels = None
        if rule is not None:
            labels = instances_from_probabilities(probabilities, rule, card.threshold)
        height, width = probabilities.shape[:2]
        return cls(ClassRule.of(card).classes(probabilities, (0, 0), (height, width)), labels)

    @property
    def count(self) -> int:
        """Number of cells."""
        return (
            0 if self.labels is None else int(np.count_nonzero(np.bincount(self.labels.flat)[1:]))
        )


@dataclass(frozen=True)
class Score:
    """Quality on one data set, and how many cells were found."""

    quality: Quality
    found: int

    def by(self, engine: str) -> Score:
        """Return the same numbers under another engine's name, to compare with."""
        return Score(self.quality.model_copy(update={"engine": engine}), self.found)


def score_images(
    runner: Runner, images: Sequence[LabelledImage], card: ModelCard, dataset: str
) -> Score:
    """Run a model over labelled images and score it.

    Parameters
    ----------
    runner : Runner
        The model.
    images : sequence of LabelledImage
        At least one.
    card : ModelCard
        Classes, head and threshold.
    dataset : str
        Name for the manifest.
    """
    overlaps: list[list[float]] = []
    f1: list[float] = []
    found = true = 0
    for item in sorted(images, key=lambda item: item.image.shape):  # one engine a size
        prediction = Prediction.from_probabilities(runner(item.image), card)
        overlaps.append(_dice_by_class(prediction.classes, item.classes, card))
        if prediction.labels is not None and item.labels is not None:
            matches = match_objects(prediction.labels, item.labels)
            f1.append(matches.f1)
            found += matches.true_positives + matches.false_positives
            true += matches.true_positives + matches.false_negatives
    names = [item.name for item in card.classes[1:]]
    quality = Quality(
        dataset=dataset,
        images=len(images),
        dice=dict(zip(names, _rounded(np.mean(overlaps, axis=0)), strict=True)),
        object_f1=round(float(np.mean(f1)), 5) if f1 else None,
        count_error=round(count_error(found, true), 5) if f1 else None,
        engine=runner.engine_name,
    )
    return Score(quality, found)


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
            ]
        )
        for name in pairs[0][0].quality.dice
    ]
    objects = [
        (score.quality.object_f1, fp32.quality.object_f1, fp32.quality.images)
        for score, fp32 in pairs
        if score.quality.object_f1 is not None and fp32.quality.object_f1 is not None
    ]
    found, expected = (sum(score.found for score in side) for side in zip(*pairs, strict=True))
    return VersusFp32(
        dice_ratio=round(min(dice_ratios), 5),
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

    Returns
    -------
    float
        The smaller of mean Dice of the classes and mean F1 of the cells, 0..1.
    """
    overlaps, f1 = [], []
    for tile, reference in zip(tiles, references, strict=True):
        prediction = Prediction.from_probabilities(runner(tile), card)
        overlaps.append(np.mean(_dice_by_class(prediction.classes, reference.classes, card)))
        if prediction.labels is not None and reference.labels is not None:
            f1.append(match_objects(prediction.labels, reference.labels).f1)
    means = [float(np.mean(values)) for values in (overlaps, f1) if values]
    return min(means)


def _dice_by_class(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], card: ModelCard
) -> list[float]:
    return [dice(predicted == index, truth == index) for index in range(1, len(card.classes))]


def _ratio(weighted: list[tuple[float, float, int]]) -> float:
    """Sum of the first by sum of the second, each weighed by the third."""
    values = sum(value * weight for value, _, weight in weighted)
    references = sum(reference * weight for _, reference, weight in weighted)
    return 1.0 if references == 0.0 else values / references


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 5) for value in values]
