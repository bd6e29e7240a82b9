"""Labelled images of a folder, as quality is measured on them.

A folder holds ``images/`` and, by the same stem, ``masks/`` (class of each pixel) and, where cells
were told apart, ``labels/`` (instance ids). ``classes.json`` beside or above says what the values
of a mask mean; without one, any value above 0 is the model's only foreground class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.errors import DataError
from cellseg.export.representative import find_images, read_normalized
from cellseg.runtime.class_file import find_class_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.normalize import Normalize

__all__ = ["LabelledImage", "read_labelled"]


@dataclass(frozen=True)
class LabelledImage:
    """One image with its truth."""

    path: Path
    """The image file."""

    image: NDArray[np.uint8]
    """RGB, shape (H, W, 3), intensity range applied."""

    classes: NDArray[np.uint8]
    """Class index of each pixel, shape (H, W)."""

    labels: NDArray[Any] | None
    """Instance ids, shape (H, W), 0 = background; None where cells were not told apart."""


def read_labelled(
    folder: Path, class_names: Sequence[str], normalize: Normalize
) -> list[LabelledImage]:
    """Read the labelled images of a folder.

    Parameters
    ----------
    folder : Path
        Holds ``images/`` and ``masks/`` or ``labels/``.
    class_names : sequence of str
        The model's classes; those of the folder are matched to them by name.
    normalize : Normalize
        Intensity range, measured per image.

    Raises
    ------
    DataError
        If a mask is missing or of another size, or a class has no counterpart.
    """
    paths = find_images(folder / "images") if (folder / "images").is_dir() else []
    if not paths:
        raise DataError(
            f"A labelled folder must hold images/ with images in it. Received: {folder}.",
            hint="Name the folder that holds images/ and masks/, e.g. DATA/test.",
        )
    table = _class_table(folder, class_names)
    return [_read_one(folder, path, table, normalize) for path in paths]


def _read_one(
    folder: Path, path: Path, table: NDArray[np.uint8], normalize: Normalize
) -> LabelledImage:
    image = read_normalized(path, normalize)
    labels = _read_map(folder / "labels" / f"{path.stem}.png", image)
    mask = _read_map(folder / "masks" / f"{path.stem}.png", image)
    if mask is None and labels is None:
        raise DataError(
            f"Every image must have a mask. Received: none for {path}.",
            hint=f"Put it at {folder / 'masks' / path.stem}.png.",
        )
    if mask is None:
        assert labels is not None  # checked just above
        classes = (labels > 0).astype(np.uint8)
    else:
        classes = table[np.minimum(mask, 255)]
    return LabelledImage(path, image, classes, labels)


def _read_map(path: Path, image: NDArray[np.uint8]) -> NDArray[Any] | None:
    if not path.is_file():
        return None
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if found is None or found.shape != image.shape[:2]:
        shape = None if found is None else found.shape
        raise DataError(
            "A mask must have one channel and the size of its image. "
            f"Received: mask={shape}, image={image.shape[:2]} for {path}."
        )
    return np.asarray(found)


def _class_table(folder: Path, class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Class index of each mask value, shape (256,)."""
    found = find_class_file(folder)
    if found is not None:
        return found.index_table(class_names)
    table = np.ones(256, np.uint8)
    table[0] = 0
    return table
