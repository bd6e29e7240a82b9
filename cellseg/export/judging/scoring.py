"""Scores every file of a bundle on the same images, by every engine at hand.

On labelled images a file is compared with what fp32 scored by the same engine; where fp32 itself
gave the labels, agreement with it is all there is to measure. Where no engine for it can run while
a bundle is made, something stands in:

``s8s8``  ONNX Runtime computing the graph as it is written, for TensorRT
``fp16``  ONNX Runtime, which rounds every tensor to float16, for GPUs
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cellseg.export.judging.quality import versus_fp32
from cellseg.export.precisions.simulate import SIMULATED, SimulatedRunner
from cellseg.runtime.engines import ENGINES
from cellseg.runtime.evaluation.quality import ModelRunner, Runner, Score

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellseg.export.judging.judging import Judging
    from cellseg.export.judging.model_file import ModelFile
    from cellseg.runtime.bundles.bundle import Agreement, ModelCard, Variant

__all__ = ["REFERENCE", "Scorer", "engines_of"]

_LOG = logging.getLogger(__name__)
REFERENCE = "onnxruntime"  # whose fp32 score stands for that of an engine without one


class Scorer:
    """Scores files; those of fp32 must come first.

    Parameters
    ----------
    card : ModelCard
        How outputs are read.
    judging : Judging
        What files are held against; without images nothing is measured.
    threads : int
        Threads to compute with.
    """

    def __init__(self, card: ModelCard, judging: Judging, threads: int) -> None:
        self._card, self._judging, self._threads = card, judging, threads
        self._fp32: dict[str | None, list[Score]] = {}

    def score(self, file: ModelFile) -> Variant:
        """Score one file; its entry for the manifest."""
        if self._judging.by_fp32:
            return file.variant((), None, self._agreements(file))
        scores = [score for runner in self._runners(file) for score in self._score(runner, file)]
        if file.precision == "fp32":
            for score in scores:
                self._fp32.setdefault(score.quality.engine, []).append(score)
            return file.variant(scores, None)
        return file.variant(scores, versus_fp32(scores, self._known(scores)) if scores else None)

    def _score(self, runner: Runner, file: ModelFile) -> list[Score]:
        scores = self._judging.scores(runner)
        runner.close()
        for score in scores:
            _LOG.info("quality of %s: %s", file.name, _words(score))
        return scores

    def _agreements(self, file: ModelFile) -> list[Agreement]:
        """Tell how far a file agrees with fp32 by each engine; fp32 with itself: nothing to say."""
        if file.precision == "fp32":
            return []
        found = []
        for runner in self._runners(file):
            found.append(self._judging.agreement(runner))
            runner.close()
        known = [item for item in found if item is not None]
        for item in known:
            _LOG.info("%s: %s", file.name, item.words)
        return known

    def _runners(self, file: ModelFile) -> Iterator[Runner]:
        if not self._judging.datasets:
            return
        if file.scheme == "s8s8":
            yield SimulatedRunner(file.data, self._card, self._threads)
        elif file.precision == "fp16":
            yield ModelRunner(file.data, self._card, REFERENCE, "fp16", self._threads)
        else:
            for name in engines_of(file):
                yield ModelRunner(file.data, self._card, name, file.precision, self._threads)

    def _known(self, scores: list[Score]) -> list[Score]:
        """Scores of fp32 by the engines of the given ones."""
        engines = dict.fromkeys(score.quality.engine for score in scores)
        return [
            score.by(engine or SIMULATED)
            for engine in engines
            for score in self._fp32.get(engine, self._fp32[REFERENCE])
        ]


def engines_of(file: ModelFile) -> list[str]:
    """Engines at hand that run the file on the CPU."""
    return [
        name
        for name, entry in ENGINES.items()
        if (needs := entry.runs.get(file.precision)) is not None
        and (needs.format, needs.precision) == (file.format, file.precision)
        and file.scheme in (None, needs.scheme)
        and not entry.needs_gpu
        and entry.is_available()
    ]


def _words(score: Score) -> str:
    quality = score.quality
    text = ", ".join(f"Dice {name} {value:.4f}" for name, value in quality.dice.items())
    text = f"{quality.dataset}, {text}"
    if quality.object_f1 is not None:
        text += f", F1 {quality.object_f1:.4f}, count error {quality.count_error:.4f}"
    return f"{text} ({quality.images} images, {quality.engine})"
