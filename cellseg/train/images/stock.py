"""Labelled images of a class recipe, scaled as the recipe says and kept in memory up to a limit.

``whole`` scales an image until it fits the input, as inference does (`cellseg.runtime.view.fit`);
``native`` leaves it. What does not fit the memory is decoded again when it is needed.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellseg.errors import DataError
from cellseg.runtime.segmenter import nearest
from cellseg.runtime.view.fit import bring_to
from cellseg.train.images.cell_crops import normalized
from cellseg.train.images.masks import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cellseg.train.images.masks import MaskRule
    from cellseg.train.images.pairs import Pair
    from cellseg.train.sections import NormalizeRecipe, Recipe

    Scale = Literal["whole", "native"]

__all__ = ["Labelled", "Stock", "prepare_image"]


@dataclass(frozen=True)
class Labelled:
    """An image as the network sees it, with the class of each pixel."""

    pair: Pair
    """Its files."""

    image: NDArray[np.uint8]
    """RGB, shape (H, W, 3)."""

    classes: NDArray[np.uint8]
    """Class index, shape (H, W)."""

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, bytes."""
        return self.image.nbytes + self.classes.nbytes


def prepare_image(image: NDArray[Any], normalize: NormalizeRecipe) -> NDArray[np.uint8]:
    """Bring an image as it was read to uint8 RGB (H, W, 3) in the recipe's intensity range.

    The only preparation besides scale (`cellseg.runtime.view.fit.bring_to`); training, evaluation
    and inference share both.
    """
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=-1)
    return normalized(image, normalize)


def _scaled(item: Labelled, fit_hw: tuple[int, int]) -> Labelled:
    """Bring image and classes to a size, the classes by the nearest pixel."""
    image = bring_to(item.image, fit_hw)
    rows, columns = (
        nearest(count, extent)
        for count, extent in zip(image.shape[:2], item.classes.shape, strict=True)
    )
    return Labelled(item.pair, image, item.classes[np.ix_(rows, columns)])


class Stock:
    """Labelled images by index.

    Parameters
    ----------
    pairs : sequence of Pair
        The files.
    rule : MaskRule
        How masks are read.
    recipe : Recipe
        Size, intensity range and memory.
    """

    def __init__(self, pairs: Sequence[Pair], rule: MaskRule, recipe: Recipe) -> None:
        self.pairs, self.rule, self.recipe = tuple(pairs), rule, recipe
        self._kept: dict[tuple[int, str], Labelled] = {}
        self._left = recipe.fit.cache_mb * 2**20
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.pairs)

    def original(self, index: int) -> Labelled:
        """Image and classes at the file's own size.

        Raises
        ------
        DataError
            If a file cannot be read, or the two differ in size.
        """
        pair = self.pairs[index]
        image = prepare_image(read_image(pair.image), self.recipe.normalize)
        if pair.mask is None:
            return Labelled(pair, image, np.zeros(image.shape[:2], np.uint8))
        classes = self.rule.read(pair.mask)
        if classes.shape != image.shape[:2]:
            raise DataError(
                "a mask must have its image's size. "
                f"Received: image={image.shape[:2]}, mask={classes.shape}, file={pair.mask}."
            )
        return Labelled(pair, image, classes)

    def get(self, index: int, scale: Scale) -> Labelled:
        """Image and classes at the scale that training sees; kept while memory lasts."""
        found = self._kept.get((index, scale))
        if found is not None:
            return found
        item = self.original(index)
        if scale == "whole" and self.recipe.fit_hw is not None:
            item = _scaled(item, self.recipe.fit_hw)
        with self._lock:
            if (index, scale) not in self._kept and item.nbytes <= self._left:
                self._kept[index, scale] = item
                self._left -= item.nbytes
        return item

    def preload(self, progress: Callable[[int, int], None] | None = None) -> NDArray[np.int64]:
        """Read every file once, in threads; returns the pixels of each class.

        Parameters
        ----------
        progress : callable, optional
            Called with the images read and their number.

        Returns
        -------
        int64, shape (images, classes)

        Raises
        ------
        DataError
            If a file cannot be read or does not fit.
        """
        scale: Scale = "native" if self.recipe.input.fit == "native" else "whole"
        counts = np.zeros((len(self), len(self.rule.classes)), np.int64)
        with ThreadPoolExecutor(max(2, self.recipe.fit.workers)) as pool:
            items = pool.map(lambda index: self.get(index, scale).classes, range(len(self)))
            for index, classes in enumerate(items):
                counts[index] = np.bincount(classes.ravel(), minlength=counts.shape[1])
                if progress is not None:
                    progress(index + 1, len(self))
        return counts
