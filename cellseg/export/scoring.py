"""Scores every file of a bundle on the same labelled images, by every engine at hand.

A file is compared with what fp32 scored by the same engine. Where no engine for it can run while a
bundle is made, something stands in:

``s8s8``  ONNX Runtime computing the graph as it is written, for TensorRT
``fp16``  ONNX Runtime, which rounds every tensor to float16, for GPUs
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cellseg.export.quality import versus_fp32
from cellseg.export.simulate import SIMULATED, SimulatedRunner
from cellseg.runtime.engines import ENGINES
from cellseg.runtime.quality import ModelRunner, Runner, Score, score_images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellseg.export.model_file import ModelFile
    from cellseg.runtime.bundle import ModelCard, Variant
    from cellseg.runtime.labelled import LabelledImage

__all__ = ["Scorer"]

_LOG = logging.getLogger(__name__)
_REFERENCE = "onnxruntime"  # whose fp32 score stands for that of an engine without one


class Scorer:
    """Scores files; those of fp32 must come first.

    Parameters
    ----------
    card : ModelCard
        How outputs are read.
    datasets : dict of str to list of LabelledImage
        By name; may be empty, then nothing is measured.
    threads : int
        Threads to compute with.
    """

    def __init__(
        self, card: ModelCard, datasets: dict[str, list[LabelledImage]], threads: int
    ) -> None:
        self._card, self._datasets, self._threads = card, datasets, threads
        self._fp32: dict[str | None, list[Score]] = {}

    def score(self, file: ModelFile) -> Variant:
        """Score one file; its entry for the manifest."""
        scores = [score for runner in self._runners(file) for score in self._score(runner, file)]
        if file.precision == "fp32":
            for score in scores:
                self._fp32.setdefault(score.quality.engine, []).append(score)
            return file.variant(scores, None)
        return file.variant(scores, versus_fp32(scores, self._known(scores)) if scores else None)

    def _score(self, runner: Runner, file: ModelFile) -> list[Score]:
        scores = []
        for dataset, images in self._datasets.items():
            scores.append(score_images(runner, images, self._card, dataset))
            _LOG.info("quality of %s on %s: %s", file.name, dataset, _words(scores[-1]))
        runner.close()
        return scores

    def _runners(self, file: ModelFile) -> Iterator[Runner]:
        if not self._datasets:
            return
        if file.scheme == "s8s8":
            yield SimulatedRunner(file.data, self._card, self._threads)
        elif file.precision == "fp16":
            yield ModelRunner(file.data, self._card, _REFERENCE, "fp16", self._threads)
        else:
            for name in _engines(file):
                yield ModelRunner(file.data, self._card, name, file.precision, self._threads)

    def _known(self, scores: list[Score]) -> list[Score]:
        """Scores of fp32 by the engines of the given ones."""
        engines = dict.fromkeys(score.quality.engine for score in scores)
        return [
            score.by(engine or SIMULATED)
            for engine in engines
            for score in self._fp32.get(engine, self._fp32[_REFERENCE])
        ]


def _engines(file: ModelFile) -> list[str]:
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
    if quality.object_f1 is not None:
        text += f", F1 {quality.object_f1:.4f}, count error {quality.count_error:.4f}"
    return f"{text} ({quality.images} images, {quality.engine})"
