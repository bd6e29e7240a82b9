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
from cellseg.runtime.bundles.class_file import find_class_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.view.normalize import Normalize

__all__ = ["IMAGE_SUFFIXES", "LabelledImage", "find_images", "read_labelled", "read_normalized"]

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
_NOT_IMAGES = {"masks", "labels", "points"}


@dataclass(frozen=True)
class LabelledImage:
    """One image with its truth."""

    source: str
    """Name of the data set it belongs to."""

    stem: str
    """File name without suffix."""

    image: NDArray[np.uint8]
    """RGB, shape (H, W, 3), intensity range applied; or as stored, also of 16 bits."""

    labels: NDArray[Any]
    """Instance ids, shape (H, W), 0 = background; all 0 where cells were not told apart."""

    mask: NDArray[np.uint8] | None = None
    """Class index of each pixel, shape (H, W); None: whatever is an object is of class 1."""

    has_cells: bool = True
    """Whether cells were told apart."""

    path: Path | None = None
    """The image file; None for an image made in memory."""

    @property
    def classes(self) -> NDArray[np.uint8]:
        """Class index of each pixel, shape (H, W)."""
        return (self.labels > 0).astype(np.uint8) if self.mask is None else self.mask


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


def find_images(folder: Path) -> list[Path]:
    """Image files below a folder, sorted; annotations are passed over."""
    if not folder.is_dir():
        raise DataError(f"A folder of images must exist. Received: {folder}.")
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(p for p in found if not _NOT_IMAGES.intersection(p.relative_to(folder).parts))


def read_normalized(path: Path, normalize: Normalize) -> NDArray[np.uint8]:
    """Read a whole image, RGB (H, W, 3), with its intensity range applied as inference does."""
    from cellseg.runtime.slides.readers import open_slide
    from cellseg.runtime.view.normalize import measure_slide
    from cellseg.runtime.view.working import WorkingView

    slide = open_slide(path)
    try:
        view = WorkingView(slide, None).in_range(measure_slide(slide, normalize))
        return view.read(0, 0, *view.hw)
    finally:
        slide.close()


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
    return LabelledImage(
        source=folder.name,
        stem=path.stem,
        image=image,
        labels=np.zeros(image.shape[:2], np.uint8) if labels is None else labels,
        mask=None if mask is None else table[np.minimum(mask, 255)],
        has_cells=labels is not None,
        path=path,
    )


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
