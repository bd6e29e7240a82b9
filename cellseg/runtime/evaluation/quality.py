"""What a variant is worth: Dice, object F1 and count error on labelled images, by real engines.

Whole images are run, their border repeated up to the stride, one engine opened for each size. The
same numbers serve the manifest's evidence, the choice between int8 files, and benchmark reports, in
which no speed stands without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cellseg.runtime.bundles.bundle import Agreement, Quality
from cellseg.runtime.engines import ENGINES, Engine, EngineOptions
from cellseg.runtime.evaluation.images import pooled, score_prediction
from cellseg.runtime.evaluation.metrics import count_error
from cellseg.runtime.view.fit import bring_back, bring_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.bundles.bundle import ModelCard
    from cellseg.runtime.evaluation.images import ImageScore
    from cellseg.runtime.evaluation.labelled import LabelledImage
    from cellseg.runtime.evaluation.metrics import Matches

__all__ = ["ModelRunner", "Prediction", "Runner", "Score", "score_agreement", "score_images"]


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
        from cellseg.runtime.bundles.decide import ClassRule
        from cellseg.runtime.cells.parting import instances_from_probabilities

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
    scores, pixels = _score_each(runner, images, card)
    f1 = [score.f1 for score in scores if score.matches is not None]
    objects = pooled(scores)
    means = _mean_dice(np.array([score.class_dice for score in scores]), pixels[:, :2] > 0)
    quality = Quality(
        dataset=dataset,
        images=len(images),
        dice=_by_name(means, card),
        object_f1=round(float(np.mean(f1)), 5) if f1 else None,
        count_error=None if objects is None else round(_count_error(objects), 5),
        engine=runner.engine_name,
    )
    return Score(quality, 0 if objects is None else objects.predicted)


def score_agreement(
    runner: Runner, tiles: Sequence[LabelledImage], card: ModelCard
) -> Agreement | None:
    """Run a model over tiles whose truth is another model's word.

    Tiles are cut anywhere and may hold a few pixels of a class: their pixels and cells count
    together, not tile by tile.

    Parameters
    ----------
    runner : Runner
        The model.
    tiles : sequence of LabelledImage
        With the other model's result as classes and labels.
    card : ModelCard
        Classes, head and threshold.

    Returns
    -------
    Agreement or None
        None where the other model found nothing on any tile: whatever agrees then says nothing.
    """
    scores, pixels = _score_each(runner, tiles, card)
    theirs, ours, shared = pixels.sum(0)
    if not theirs.any():
        return None
    overlaps = [
        round(float(2 * both / (a + b)), 5) if a else None
        for a, b, both in zip(theirs, ours, shared, strict=True)
    ]
    objects = pooled(scores)
    if objects is not None and not objects.truth + objects.predicted:
        objects = None  # no cell on either side: nothing to agree on
    return Agreement(
        tiles=len(tiles),
        dice=_by_name(overlaps, card),
        object_f1=None if objects is None else round(objects.f1, 5),
        count_drift=None if objects is None else round(_count_error(objects), 5),
        cells=None if objects is None else objects.truth,
        engine=runner.engine_name,
    )


def _score_each(
    runner: Runner, images: Sequence[LabelledImage], card: ModelCard
) -> tuple[list[ImageScore], NDArray[np.int64]]:
    """Score images one by one; also pixels, (images, 3, classes - 1): theirs, ours, shared."""
    count = len(card.classes)
    scores, pixels = [], []
    for item in sorted(images, key=lambda item: item.image.shape):  # one engine a size
        found = Prediction.from_probabilities(_run(runner, item.image, card), card)
        scores.append(score_prediction(item, found.classes, found.labels, count))
        truth = item.classes
        maps = (truth, found.classes, truth[truth == found.classes])
        pixels.append([np.bincount(each.ravel(), minlength=count)[1:] for each in maps])
    return scores, np.array(pixels, np.int64)


def _by_name(values: Sequence[float | None], card: ModelCard) -> dict[str, float]:
    """Values of the classes but background; None is left out."""
    names = (item.name for item in card.classes[1:])
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _run(runner: Runner, image: NDArray[np.uint8], card: ModelCard) -> NDArray[np.float32]:
    """Run a model as inference does: whole images first brought to the size it knows."""
    fit_px = card.input.fit_px
    if fit_px is None:
        return runner(image)
    return bring_back(runner(bring_to(image, fit_px)), image.shape[:2])


def _count_error(objects: Matches) -> float:
    return count_error(objects.predicted, objects.truth)


def _mean_dice(overlaps: NDArray[np.float64], there: NDArray[np.bool_]) -> list[float | None]:
    """Mean of each class over images, None for one that no truth holds.

    Of several classes, an image without one counts for it only if it was found there: the many
    images that lack a rare class would hide how it fares. Of a single class all images count.

    Parameters
    ----------
    overlaps : float, shape (images, classes)
        Dice, 1 where a class is neither there nor found.
    there : bool, shape (images, 2, classes)
        Whether truth and prediction hold the class.
    """
    if overlaps.shape[1] == 1:
        return [round(float(overlaps.mean()), 5)]
    return [
        round(float(overlaps[there[..., index].max(1), index].mean()), 5)
        if there[:, 0, index].max()
        else None
        for index in range(overlaps.shape[1])
    ]
