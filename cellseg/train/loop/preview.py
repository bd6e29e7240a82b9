"""A sheet of image and mask pairs exactly as training sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from cellseg.errors import DataError
from cellseg.train.images.pictures import CLASS_COLOURS
from cellseg.train.images.targets import interior_border
from cellseg.train.tasks.class_task import ClassTask, palette
from cellseg.train.tasks.task import open_task

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.progress import Progress
    from cellseg.train.sections import Recipe

__all__ = ["preview_sheet", "training_pairs"]

_GAP_PX, _TEXT_PX = 6, 18


def preview_sheet(
    recipe: Recipe, root: Path, path: Path, count: int = 24, progress: Progress | None = None
) -> int:
    """Draw the first crops of a run, three pairs a row; returns how many.

    Parameters
    ----------
    recipe : Recipe
        What would be trained.
    root : Path
        Folder its paths start from.
    path : Path
        PNG or JPEG to write.
    count : int
        Pairs.
    progress : callable, optional
        Called with what is going on, how far it is, and how far it goes.

    Raises
    ------
    DataError
        If images and masks do not fit, or the picture cannot be written.
    """
    pairs = [_pair(*pair) for pair in training_pairs(recipe, root, count, progress)]
    blank = np.full_like(pairs[0], 255)
    pairs += [blank] * (-len(pairs) % 3)
    rows = [np.hstack(pairs[start : start + 3]) for start in range(0, len(pairs), 3)]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        written = cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])
    except cv2.error:
        written = False
    if not written:
        raise DataError(
            f"a sheet is written as PNG or JPEG. Received: {path}.", hint="-o sheet.png"
        )
    return count


def training_pairs(
    recipe: Recipe, root: Path, count: int, progress: Progress | None = None
) -> list[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Name, image (H, W, 3) and coloured mask (H, W, 3) of the first crops of a run."""
    task = open_task(recipe, root, progress)
    crops, batch = task.crops(0), recipe.fit.batch
    if isinstance(task, ClassTask):
        colors = palette(recipe)
        found = [crops.crop(*divmod(index, batch)) for index in range(count)]
        return [(item.pair.image.name, image, colors[classes]) for image, classes, item in found]
    pairs = []
    for step in range(-(-count // batch)):
        images, _ = crops[step]
        ids = crops.labels_of(step)
        for name, image, labels in zip(crops.names(step), images, ids, strict=True):
            mask = CLASS_COLOURS[interior_border(labels, *recipe.target.widths)]
            pairs.append((name, image.astype(np.uint8), mask))
    return pairs[:count]


def _pair(
    name: str, image: NDArray[np.uint8], mask: NDArray[np.uint8], side: int = 224
) -> NDArray[np.uint8]:
    """Image, mask and both together, under the file's name."""
    mixed = np.where(mask.any(-1, keepdims=True), 0.55 * image + 0.45 * mask, image)
    parts = [_small(part.astype(np.uint8), side) for part in (image, mask, mixed)]
    row = np.hstack(
        [
            cv2.copyMakeBorder(
                part, 0, _GAP_PX, 0, _GAP_PX // 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)
            )
            for part in parts
        ]
    )
    head = np.full((_TEXT_PX, row.shape[1], 3), 255, np.uint8)
    cv2.putText(head, name[:60], (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(
        np.vstack([head, row]), 0, 0, 0, 2 * _GAP_PX, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )


def _small(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    factor = side / max(image.shape[:2])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    small = cv2.resize(image, (0, 0), fx=factor, fy=factor, interpolation=how)
    framed = np.full((side, side, 3), 255, np.uint8)
    framed[: small.shape[0], : small.shape[1]] = small[:side, :side]
    return framed
