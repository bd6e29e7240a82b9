"""Chooses the int8 file: every range method is tried, and the task's own metric decides.

The judge is labelled images that neither trained the network nor will report its quality; where
there are none, a part of the representative tiles that gave no ranges, with fp32's own prediction
as the truth.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.errors import ExportError
from cellseg.export.quality import Prediction, agreement, score_images, versus_fp32
from cellseg.export.quantize import quantize_u8s8
from cellseg.export.ranges import collect_distributions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from cellseg.export.labelled import LabelledImage
    from cellseg.export.quality import ModelRunner
    from cellseg.runtime.bundle import ModelCard

    RunnerFactory = Callable[[bytes, str], ModelRunner]
    Judge = Callable[[ModelRunner], float]

__all__ = ["Int8Choice", "choose_int8"]

_LOG = logging.getLogger(__name__)
_JUDGING_SHARE = 4  # one tile in four judges


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


def choose_int8(
    graph: onnx.ModelProto,
    card: ModelCard,
    tiles: Sequence[NDArray[np.uint8]],
    select: dict[str, list[LabelledImage]],
    methods: Sequence[str],
    runner: RunnerFactory,
) -> Int8Choice:
    """Quantize by each range method and keep the best.

    Parameters
    ----------
    graph : onnx.ModelProto
        The float graph.
    card : ModelCard
        How outputs are read.
    tiles : sequence of uint8, shape (h, w, 3)
        Representative tiles.
    select : dict of str to list of LabelledImage
        Judging data sets by name; may be empty.
    methods : sequence of str
        Keys of ``RANGE_METHODS``; the earlier wins a tie.
    runner : callable
        Makes a runner of (model bytes, precision).
    """
    if not methods:
        raise ExportError("int8 needs a range method. Received: none.")
    judging = [] if select else list(tiles[::_JUDGING_SHARE])
    ranging = list(tiles) if select else _others(tiles)
    distributions = collect_distributions(graph, ranging)
    reference = runner(graph.SerializeToString(), "fp32")
    judge = _judge(reference, card, select, judging)
    reference.close()
    models, scores = {}, {}
    for method in methods:
        models[method] = quantize_u8s8(graph, distributions, method).SerializeToString()
        candidate = runner(models[method], "int8")
        scores[method] = round(judge(candidate), 5)
        candidate.close()
        _LOG.info("int8 by %s ranges keeps %.4f of fp32", method, scores[method])
    best = max(methods, key=lambda method: scores[method])
    scored_on = ", ".join(select) if select else "agreement with fp32"
    return Int8Choice(models[best], best, scores, scored_on)


def _judge(
    reference: ModelRunner,
    card: ModelCard,
    select: dict[str, list[LabelledImage]],
    judging: list[NDArray[np.uint8]],
) -> Judge:
    """Return a function that tells how much of the reference's quality a runner keeps."""
    if not select:
        truths = [Prediction.from_probabilities(reference(tile), card) for tile in judging]
        return lambda candidate: agreement(candidate, truths, judging, card)
    known = [score_images(reference, images, card, name) for name, images in select.items()]

    def judge(candidate: ModelRunner) -> float:
        scores = [score_images(candidate, images, card, name) for name, images in select.items()]
        kept = versus_fp32(scores, known)
        ratios = (kept.dice_ratio, kept.object_f1_ratio)
        return min(ratio for ratio in ratios if ratio is not None)

    return judge


def _others(tiles: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Tiles that do not judge; all of them if that leaves none."""
    kept = [tile for index, tile in enumerate(tiles) if index % _JUDGING_SHARE]
    return kept or list(tiles)
