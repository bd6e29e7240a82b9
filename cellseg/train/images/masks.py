"""From files to arrays: RGB images, and masks as the class of each pixel.

Grey masks of two classes are cut at a threshold: the recipe's, else Otsu's value over the masks of
all training images together (one for all: an all-black mask has no Otsu value of its own). With
more classes, values are looked up; masks of colours take the class of the nearest colour.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg.errors import DataError
from cellseg.runtime.slides.orientation import as_stored
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.slides.slide import rgb_from_samples

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.sections import ClassRecipe, Recipe

__all__ = [
    "MaskRule",
    "fit_mask_rule",
    "needs_threshold",
    "otsu_value",
    "read_grey",
    "read_image",
]

_UNKNOWN = 255
_GREY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_NOT_OF_INFERENCE = {".webp"}  # trained on, although slides and frames never are


def read_image(path: Path) -> NDArray[Any]:
    """Read an image as inference does: RGB, uint8 or uint16, shape (H, W, 3).

    White shows through where it is not opaque; an orientation is not applied.

    Raises
    ------
    SlideError
        If inference would not read it, either: it is damaged, holds other numbers or several pages.
    DataError
        If it is none of inference's formats and cannot be decoded, or holds other numbers.
    """
    if path.suffix.lower() not in _NOT_OF_INFERENCE:
        with closing(open_slide(path)) as slide:
            height, width = slide.levels[0].height_px, slide.levels[0].width_px
            return np.asarray(slide.read_region(0, (0, 0), (height, width)))
    array = _decoded(path, cv2.IMREAD_UNCHANGED)
    if array.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"an image must hold 8 or 16 bit. Received: {path}, dtype={array.dtype}.",
            hint="export it again as PNG or TIFF of 8 or 16 bit.",
        )
    if array.ndim == 3:  # BGR or BGRA
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    return rgb_from_samples(array)


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Read a mask as grey values, shape (H, W); 16-bit values above 255 count as 255.

    Raises
    ------
    DataError
        If it cannot be decoded, or holds other than whole numbers.
    """
    array = _decoded(path, _GREY)
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise DataError(
            f"values of a mask that are classes are whole numbers. Received: {path}, "
            f"{array.dtype} with others.",
            hint="probabilities: save the most probable class of each pixel.",
        )
    return np.clip(array, 0, 255).astype(np.uint8)


def _read_shades(path: Path) -> NDArray[np.uint8]:
    """Read a mask that a grey value cuts, shape (H, W), white at 255.

    White is the largest value where 8 bits do not hold it, and 1 of parts (probabilities). What is
    not black stays so.
    """
    array = np.maximum(np.nan_to_num(_decoded(path, _GREY)), 0)
    white = float(array.max(initial=0))
    if array.dtype.kind == "f" and white <= 1:
        white = 1.0
    elif white <= 255:
        return array.astype(np.uint8)
    return np.ceil(array * (255 / white)).astype(np.uint8)


def _decoded(path: Path, flags: int) -> NDArray[Any]:
    try:
        data = np.fromfile(path, np.uint8)  # cv2.imread cannot open every path on Windows
        array = cv2.imdecode(data, flags) if data.size else None
    except (OSError, cv2.error):
        array = None
    if array is None:
        raise DataError(
            f"an image or mask must be readable. Received: {path}, which is not.",
            hint="it may be cut short or no image at all: replace it or take it out.",
        )
    return np.ascontiguousarray(as_stored(array, path))


@dataclass(frozen=True)
class MaskRule:
    """How a mask file becomes classes."""

    classes: tuple[ClassRecipe, ...]
    """Background first."""

    threshold: int | None = None
    """Foreground is above this grey value; None where values or colours are looked up."""

    blur_px: int = 0
    """Side of a Gaussian blur before the threshold, px."""

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Class index of each pixel, shape (H, W).

        Raises
        ------
        DataError
            If the file cannot be read, or holds a value that is no class.
        """
        table = self.index_table()
        if table is None:
            return self._of_colors(read_image(path))
        grey = read_grey(path) if self.threshold is None else _read_shades(path)
        if self.threshold is not None and self.blur_px > 1:
            side = self.blur_px | 1
            grey = np.asarray(cv2.GaussianBlur(grey, (side, side), 0))
        found = table[grey]
        if (found == _UNKNOWN).any():
            values = sorted({int(value) for value in np.unique(grey[found == _UNKNOWN])})
            raise DataError(
                "every value of a mask must be a class. "
                f"Received: {path} holds {', '.join(map(str, values[:8]))}.",
                hint="name each value in the recipe: [[classes]] values = [...].",
            )
        return found

    def index_table(self) -> NDArray[np.uint8] | None:
        """Class of each mask value, shape (256,), 255 for none; None where colours tell it."""
        if self.threshold is not None:
            return (np.arange(256) > self.threshold).astype(np.uint8)
        if any(item.mask_colors for item in self.classes):
            return None
        table = np.full(256, _UNKNOWN, np.uint8)
        for index, item in enumerate(self.classes):
            for value in item.values or (index,):
                table[value] = index
        return table

    def _of_colors(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Class of the nearest colour, by squared distance; ties go to the first."""
        known = [(c, i) for i, item in enumerate(self.classes) for c in item.mask_colors]
        best = np.full(image.shape[:2], np.iinfo(np.int32).max, np.int32)
        found = np.zeros(image.shape[:2], np.uint8)
        wide = image.astype(np.int32)
        for color, index in known:
            distance = ((wide - np.array(color, np.int32)) ** 2).sum(-1)
            nearer = distance < best
            best[nearer], found[nearer] = distance[nearer], index
        return found


def needs_threshold(recipe: Recipe) -> bool:
    """Tell whether masks are cut at a grey value that only the training masks tell."""
    return _are_cut(recipe.class_list) and recipe.mask.threshold is None


def _are_cut(classes: Sequence[ClassRecipe]) -> bool:
    """Tell whether a grey value parts the classes: two, of which no value or colour is known."""
    return len(classes) <= 2 and not any(item.values or item.mask_colors for item in classes)


def fit_mask_rule(recipe: Recipe, masks: Sequence[Path]) -> MaskRule:
    """Settle how masks are read; looks at all of them where a threshold has to be found.

    Raises
    ------
    DataError
        If a mask cannot be read, or all of them are of one value.
    """
    classes, mask = recipe.class_list, recipe.mask
    if not _are_cut(classes):
        return MaskRule(classes)
    threshold = _found_threshold(masks) if mask.threshold is None else mask.threshold
    return MaskRule(classes, threshold, mask.blur_px)


def _found_threshold(masks: Sequence[Path]) -> int:
    counts = np.zeros(256, np.int64)
    for path in masks:
        counts += np.bincount(_read_shades(path).ravel(), minlength=256)
    if np.count_nonzero(counts) < 2:
        value = int(np.flatnonzero(counts)[0]) if counts.any() else 0
        raise DataError(
            "masks must hold foreground and background. "
            f"Received: {len(masks)} masks, all of the value {value}.",
            hint=f"look at {masks[0].parent}: are these the right masks?" if masks else None,
        )
    return otsu_value(counts)


def otsu_value(counts: NDArray[np.int64]) -> int:
    """Grey value that splits a histogram best: largest variance between the two parts.

    Parameters
    ----------
    counts : int64, shape (256,)
        Pixels of each grey value; two values at least.

    References
    ----------
    .. [1] Otsu, IEEE Trans. Systems, Man, and Cybernetics 9, 62-66 (1979).
    """
    below = np.cumsum(counts)[:-1].astype(float)
    above = counts.sum() - below
    sums = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2 * below * above
    return int(np.nanargmax(apart))
