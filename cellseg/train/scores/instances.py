"""How well a bundle tells cells apart on the images of a recipe, through the runtime users run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.errors import ExportError
from cellseg.runtime.evaluation.instances import score_instances
from cellseg.train.scores.evaluate import load_split

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cellseg.runtime.evaluation.instances import InstanceScore
    from cellseg.train.sections import Recipe

__all__ = ["instance_scores"]


def instance_scores(
    recipe: Recipe,
    data_root: Path,
    split: str = "test",
    model: str | Path = "nuclei",
    engine: str = "auto",
    precision: str = "auto",
) -> Iterator[InstanceScore]:
    """Score a bundle's label maps, image by image.

    Parameters
    ----------
    recipe, data_root, split, model, engine, precision
        As for `cellseg.train.scores.evaluate.evaluate_bundle`.

    Raises
    ------
    DataError
        If the split has no images.
    ExportError
        If the model does not tell cells apart.
    """
    from cellseg.runtime.segmenter import Segmenter

    segmenter = Segmenter.load(model, engine=engine, precision=precision)
    for item in load_split(recipe, data_root, split):
        labels = segmenter(item.image).labels
        if labels is None:
            raise ExportError(
                f"evaluate --instances needs a model that tells cells apart. Received: {model}."
            )
        yield score_instances(labels, item.labels, item.stem, item.source)
