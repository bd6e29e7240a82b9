"""Chooses an int8 file: every range method is tried, and the task's own metric decides.

The judge is labelled images that neither trained the network nor will report its quality; where
there are none, representative tiles that gave no ranges, with fp32's own result as their labels
(`cellseg.export.judging.judging`).

Weights are rounded together (`cellseg.export.precisions.rounding`), not each for itself.

Where the best method keeps too little of the fp32 quality, layers are given back to float until
enough is kept or half of them are float: then int8 is not worth its name. The last convolution goes
first, being the cheapest for what it may do to borders between cells; then the noisiest. Errors of
layers may cancel: one in float without which less is kept goes back to int8.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.errors import ExportError
from cellseg.export.precisions.ranges import collect_distributions
from cellseg.export.precisions.rounding import round_weights, second_moments
from cellseg.export.precisions.s8s8 import quantize_s8s8
from cellseg.export.precisions.sqnr import LayerNoise, measure_noise, worst_first
from cellseg.export.precisions.u8s8 import last_convolutions, quantize_u8s8

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from cellseg.export.judging.judging import Judge, Judging
    from cellseg.export.precisions.ranges import Distribution
    from cellseg.export.precisions.rounding import Moments
    from cellseg.runtime.evaluation.quality import Runner

    RunnerFactory = Callable[[bytes, str], Runner]

__all__ = ["SCHEMES", "GivenBack", "Int8Choice", "Int8Lab", "choose_int8", "choose_tflite_int8"]

_LOG = logging.getLogger(__name__)
_NOISE_TILES = 8
_MOMENT_TILES = 48
SCHEMES = {"u8s8": quantize_u8s8, "s8s8": quantize_s8s8}


@dataclass(frozen=True)
class GivenBack:
    """One step of the search."""

    layer: str
    """Convolution that was given back to float."""

    score: float
    """Share of the fp32 quality kept from then on."""


@dataclass(frozen=True)
class Int8Choice:
    """The int8 file, and what it was chosen by."""

    model: bytes
    """The file."""

    method: str
    """How its ranges were made."""

    scores: dict[str, float]
    """Share of the fp32 quality that each method kept where it was judged."""

    scored_on: str
    """Names of the judging data sets, or "agreement with fp32"."""

    scheme: str = "u8s8"
    """Signedness of activations and weights; ``tflite`` for that format's own."""

    given_back: tuple[GivenBack, ...] = ()
    """Steps of the search, where one was needed."""

    noise: tuple[LayerNoise, ...] = ()
    """Of every convolution of the file, the noisiest first."""

    rounding: str = "gptq"
    """How weights were rounded: ``gptq`` (`cellseg.export.precisions.rounding`) or ``nearest``."""

    tried: int = 0
    """Layers that the search gave back, one after the other; the file is its best step."""

    @property
    def kept(self) -> float:
        """Share of the fp32 quality that the file kept where it was judged."""
        return self.given_back[-1].score if self.given_back else self.scores[self.method]


@dataclass(frozen=True)
class Int8Lab:
    """What int8 files are made and judged with; the same for every scheme."""

    graph: onnx.ModelProto
    """The float graph."""

    distributions: dict[str, Distribution]
    """Of its tensors."""

    moments: Moments
    """Of the inputs of its convolutions."""

    noise_tiles: tuple[NDArray[np.uint8], ...]
    """Tiles that noise is measured on."""

    judge: Judge
    """Share of the fp32 quality that a runner keeps."""

    scored_on: str
    """What the judge looks at."""

    @classmethod
    def prepare(
        cls,
        graph: onnx.ModelProto,
        tiles: Sequence[NDArray[np.uint8]],
        judging: Judging,
        runner: RunnerFactory,
    ) -> Int8Lab:
        """Measure ranges and the fp32 quality.

        Parameters
        ----------
        graph : onnx.ModelProto
            The float graph.
        tiles : sequence of uint8, shape (h, w, 3)
            Representative tiles.
        judging : Judging
            What files are held against; none of it is among the tiles.
        runner : callable
            Makes a runner of (model bytes, precision).
        """
        distributions = collect_distributions(graph, tiles)
        reference = runner(graph.SerializeToString(), "fp32")
        judge = judging.judge(reference)
        reference.close()
        moments = second_moments(graph, tiles[:: -(-len(tiles) // _MOMENT_TILES)])
        noise_tiles = tuple(tiles[:_NOISE_TILES])
        return cls(graph, distributions, moments, noise_tiles, judge, judging.words)

    def score(self, model: bytes, runner: RunnerFactory) -> float:
        """Share of the fp32 quality that an int8 file keeps."""
        candidate = runner(model, "int8")
        kept = round(self.judge(candidate), 5)
        candidate.close()
        return kept


def choose_int8(
    lab: Int8Lab,
    methods: Sequence[str],
    runners: Sequence[RunnerFactory],
    scheme: str = "u8s8",
    min_quality: float = 0.0,
) -> Int8Choice:
    """Quantize by each range method, keep the best, and give layers back if it is not enough.

    Parameters
    ----------
    lab : Int8Lab
        The float graph with all that was measured of it.
    methods : sequence of str
        Keys of ``RANGE_METHODS``; the earlier wins a tie.
    runners : sequence of callable
        Each makes a runner of (model bytes, precision). The first ranks; what it finds to be enough
        must be so by the others too.
    scheme : str
        Key of ``SCHEMES``.
    min_quality : float
        Share of the fp32 quality to reach where it is judged. What comes back may have missed it:
        see ``Int8Choice.kept``.
    """

    def make(method: str, floats: Sequence[str] = ()) -> onnx.ModelProto:
        quantized = SCHEMES[scheme](lab.graph, lab.distributions, method, floats)
        return round_weights(lab.graph, quantized, lab.moments)

    def score(model: onnx.ModelProto) -> float:
        data = model.SerializeToString()
        kept = lab.score(data, runners[0])
        others = runners[1:] if kept >= min_quality else ()
        return min([kept, *(lab.score(data, runner) for runner in others)])

    scores = _score_methods(methods, lambda method: score(make(method)), scheme)
    best = _best(scores)
    model, kept = make(best), scores[best]
    noise = measure_noise(lab.graph, model, lab.noise_tiles)
    steps: list[GivenBack] = []
    best_step = 0
    layers = _to_give_back(lab.graph, noise)
    for layer in layers[: (len(layers) + 1) // 2]:
        if kept >= min_quality:
            break
        made = make(best, [*(step.layer for step in steps), layer])
        steps.append(GivenBack(layer, score(made)))
        _LOG.info("int8 %s with %s in float keeps %.4f", scheme, layer, steps[-1].score)
        if steps[-1].score > kept:  # a layer may help only with those that follow
            model, kept, best_step = made, steps[-1].score, len(steps)
    given_back = tuple(steps[:best_step])
    if given_back:
        noise = measure_noise(lab.graph, model, lab.noise_tiles)
    return Int8Choice(
        model.SerializeToString(), best, scores, lab.scored_on, scheme, given_back, tuple(noise),
        tried=len(steps),
    )  # fmt: skip


def choose_tflite_int8(
    lab: Int8Lab, make: Callable[[str], bytes], methods: Sequence[str], runner: RunnerFactory
) -> Int8Choice:
    """Make a .tflite file by each range method and keep the best: all of it is int8, or nothing.

    Parameters
    ----------
    lab : Int8Lab
        What judges.
    make : callable
        Makes the file of a key of ``RANGE_METHODS``.
    methods : sequence of str
        Keys to try; the earlier wins a tie.
    runner : callable
        Makes a runner of (model bytes, precision).
    """
    models = {method: make(method) for method in methods}
    scores = _score_methods(methods, lambda method: lab.score(models[method], runner), "tflite")
    best = _best(scores)
    return Int8Choice(models[best], best, scores, lab.scored_on, "tflite", rounding="nearest")


def _score_methods(
    methods: Sequence[str], score: Callable[[str], float], scheme: str
) -> dict[str, float]:
    if not methods:
        raise ExportError("int8 needs a range method. Received: none.")
    scores = {}
    for method in methods:
        scores[method] = score(method)
        _LOG.info("int8 %s by %s ranges keeps %.4f of fp32", scheme, method, scores[method])
    return scores


def _to_give_back(graph: onnx.ModelProto, noise: Sequence[LayerNoise]) -> list[str]:
    """Names of int8 layers in the order in which they are given back."""
    last = last_convolutions(graph)
    return sorted(worst_first(noise), key=lambda name: name not in last)


def _best(scores: dict[str, float]) -> str:
    return max(scores, key=lambda method: scores[method])
