"""How good a model is on labelled images: per image, per source, and the worst ones as a picture.

Works on anything that turns a normalized RGB image into probabilities: a Keras run while its head
is being chosen, or any variant of a bundle through the engine that will run it.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from cellseg.errors import DataError, ExportError
from cellseg.runtime.cells.parting import instances_from_probabilities
from cellseg.runtime.evaluation.images import ImageScore, SourceScore, average, score_prediction
from cellseg.train.images.cell_crops import drawable, load_source, padded_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from cellseg.runtime.bundles.manifest import InteriorBorder
    from cellseg.train.images.cell_crops import LabelledImage
    from cellseg.train.sections import ModelRecipe, Recipe

    Predict: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

WORST_SHOWN = 4
PANEL_PX = 300


def whole_image_predictor(model: keras.Model, recipe: ModelRecipe) -> Predict:
    """Return what maps an image of any size to its probabilities, padded to the stride inside."""
    from cellseg.train.tasks.instance_task import predict

    stride = recipe.stride

    def whole(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = image.shape[:2]
        return predict(model, padded_to(image, stride))[:height, :width]

    return whole


def score_image(
    item: LabelledImage,
    probabilities: NDArray[np.float32],
    rule: InteriorBorder,
    threshold: float | None = 0.5,
) -> ImageScore:
    """Score one prediction (H, W, C) against the image's labels (H, W)."""
    labels = instances_from_probabilities(probabilities, rule, threshold)
    foreground = 1.0 - probabilities[..., 0] >= (0.5 if threshold is None else threshold)
    return score_prediction(item, foreground.astype(np.uint8), labels)


def score_images(
    images: Iterable[LabelledImage],
    predict: Predict,
    rule: InteriorBorder,
    threshold: float | None = 0.5,
) -> list[ImageScore]:
    """Predict and score images one after the other."""
    return [score_image(item, predict(item.image), rule, threshold) for item in images]


def summarize(scores: list[ImageScore]) -> dict[str, SourceScore]:
    """Average the scores of each source."""
    groups: dict[str, list[ImageScore]] = {}
    for score in scores:
        groups.setdefault(score.source, []).append(score)
    return {name: average(group) for name, group in groups.items()}


def write_scores(scores: list[ImageScore], folder: Path) -> dict[str, SourceScore]:
    """Write ``per-image.csv``, worst first, and ``summary.json``; returns the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "per-image.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "stem", "dice", "f1", "objects_found", "objects_true"])
        for s in sorted(scores, key=lambda score: (score.source, score.f1)):
            writer.writerow(
                [s.source, s.stem, f"{s.dice:.4f}", f"{s.f1:.4f}", s.predicted, s.truth]
            )
    summary = summarize(scores)
    text = json.dumps({name: asdict(score) for name, score in summary.items()}, indent=2)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    return summary


def save_worst(
    images: list[LabelledImage],
    scores: list[ImageScore],
    label: Callable[[NDArray[np.uint8]], NDArray[np.uint32]],
    picture: Path,
) -> None:
    """Show the worst images of each source: a row a source, image beside truth and prediction.

    ``label`` maps an image to the label map that was scored. True outlines are green, predicted
    ones magenta; where both run together they look white.
    """
    by_name = {(item.source, item.stem): item for item in images}
    rows = []
    for source in dict.fromkeys(score.source for score in scores):
        group = sorted((s for s in scores if s.source == source), key=lambda s: s.f1)
        panels = [_panel(by_name[source, s.stem], s, label) for s in group[:WORST_SHOWN]]
        blank = np.full((PANEL_PX, 2 * PANEL_PX, 3), 255, np.uint8)
        rows.append(np.hstack(panels + [blank] * (WORST_SHOWN - len(panels))))
    cv2.imwrite(str(picture), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def format_table(summary: dict[str, SourceScore]) -> str:
    """Format the summary as a Markdown table."""
    lines = [
        "| source | images | Dice | F1 (mean per image) | F1 (pooled) | count error |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {s.images} | {s.dice:.3f} | {s.f1:.3f} | {s.f1_pooled:.3f} "
        f"| {100 * s.count_error:.1f} % |"
        for name, s in summary.items()
    ]
    return "\n".join(lines)


def evaluate_bundle(
    recipe: Recipe,
    data_root: Path,
    split: str = "test",
    model: str | Path = "nuclei",
    folder: Path | None = None,
    engine: str = "auto",
    precision: str = "auto",
) -> dict[str, SourceScore]:
    """Score a bundle on a split of a recipe's sources, through the runtime that users run.

    Parameters
    ----------
    recipe : Recipe
        Names the sources.
    data_root : Path
        Folder the sources' paths are relative to.
    split : str
        "train", "valid" or "test".
    model : str or Path
        A shipped bundle's name or a file.
    folder : Path, optional
        Where to write ``per-image.csv``, ``summary.json`` and ``worst.jpg``.
    engine, precision : str
        As for `infer`.

    Raises
    ------
    DataError
        If the split has no images.
    ExportError
        If the model does not tell cells apart.
    """
    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.segmenter import Segmenter

    manifest = Bundle.open(model).manifest
    rule = manifest.head.instances
    if rule is None:
        raise ExportError(f"evaluate needs a model that tells cells apart. Received: {model}.")
    images = load_split(recipe, data_root, split)
    segmenter = Segmenter.load(model, engine=engine, precision=precision)

    def predict(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return segmenter(image).probabilities

    def label(image: NDArray[np.uint8]) -> NDArray[np.uint32]:
        return instances_from_probabilities(predict(image), rule, manifest.threshold)

    scores = score_images(images, predict, rule, manifest.threshold)
    if folder is None:
        return summarize(scores)
    summary = write_scores(scores, folder)
    save_worst(images, scores, label, folder / "worst.jpg")
    return summary


def load_split(recipe: Recipe, data_root: Path, split: str) -> list[LabelledImage]:
    """Read the images of a split with the intensities of their files, as inference gets them.

    Raises
    ------
    DataError
        If there are none.
    """
    # The runtime brings intensities to range itself: 8 bits of 16 would leave a dim image few.
    images = [
        item for source in recipe.sources for item in load_source(source, data_root, split, None)
    ]
    if not images:
        raise DataError(f"a split to score on holds images. Received: none in {split}.")
    return images


def _panel(
    item: LabelledImage,
    score: ImageScore,
    label: Callable[[NDArray[np.uint8]], NDArray[np.uint32]],
) -> NDArray[np.uint8]:
    labels = label(item.image)
    side = min(*item.labels.shape, PANEL_PX)
    plain = drawable(item.image)[:side, :side]
    outlined = plain.copy()
    true, found = (_outline(ids[:side, :side]) for ids in (item.labels, labels))
    outlined[true] = (0, 220, 0)
    outlined[found] = (255, 0, 255)
    outlined[true & found] = (255, 255, 255)
    both = np.hstack([cv2.resize(part, (PANEL_PX, PANEL_PX)) for part in (plain, outlined)])
    text = f"{item.source} F1 {score.f1:.2f} Dice {score.dice:.2f}"
    for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(both, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thick, cv2.LINE_AA)
    return both


def _outline(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels of a label with a neighbour of another label to the right or below."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge
