"""Pictures of a training run: its curves, and a contact sheet of validation images."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.images.cell_crops import LabelledImage
    from cellseg.train.sections import TargetRecipe

THUMB_PX = 256
CLASS_COLOURS = np.array([(0, 0, 0), (60, 160, 60), (250, 220, 60)], np.uint8)


def plot_metrics(table: Path, picture: Path) -> None:
    """Draw every loss and Dice column of ``metrics.csv`` over the epochs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name in rows[0]:
        if name in {"epoch", "seconds"}:
            continue
        axis = right if "dice" in name else left
        axis.plot(epochs, [float(row[name]) for row in rows], marker=".", label=name)
    for axis, title in ((left, "loss"), (right, "validation Dice")):
        axis.set(xlabel="epoch", title=title)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def save_contact_sheet(
    images: list[LabelledImage],
    predicted: list[NDArray[np.float32]],
    target: TargetRecipe,
    picture: Path,
) -> None:
    """Write image, truth and predicted classes side by side, one image a row of three."""
    from cellseg.train.images.targets import interior_border

    rows = []
    for item, probabilities in zip(images, predicted, strict=True):
        truth = CLASS_COLOURS[interior_border(item.labels, *target.widths)]
        found = CLASS_COLOURS[probabilities[..., :3].argmax(-1)]
        rows.append(np.hstack([_thumb(part) for part in (item.image, truth, found)]))
    while len(rows) % 3:
        rows.append(np.full_like(rows[0], 255))
    sheet = np.vstack([np.hstack(rows[i : i + 3]) for i in range(0, len(rows), 3)])
    cv2.imwrite(str(picture), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def _thumb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut the upper left square, at most ``THUMB_PX`` a side, in a frame of that size."""
    part = image[:THUMB_PX, :THUMB_PX]
    framed = np.full((THUMB_PX + 4, THUMB_PX + 4, 3), 255, np.uint8)
    framed[: part.shape[0], : part.shape[1]] = part
    return framed
