"""The repeatable stream of training crops of a class recipe, and the crops that validate.

The crops of a step depend on seed and step alone, so a resumed run sees the same ones; they are new
ones each step, and made in threads ahead of the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cellseg.train.augment.crop import jitter_intensity, random_affine
from cellseg.train.augment.paste import paste_objects
from cellseg.train.augment.warp import Positions, draw_warp, sample_image, sample_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cellseg.train.images.stock import Labelled, Scale, Stock
    from cellseg.train.sections import Recipe

__all__ = ["ClassCrops", "validation_crops"]


class ClassCrops(keras.utils.PyDataset):
    """Random crops for every step of a run.

    Parameters
    ----------
    stock : Stock
        Training images.
    recipe : Recipe
        Size, batch, augmentation, seed, number of steps, weights of the sources.
    first_step : int
        Step that item 0 belongs to: where a resumed run goes on.
    """

    def __init__(self, stock: Stock, recipe: Recipe, first_step: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._stock, self._recipe, self._first_step = stock, recipe, first_step
        weight_of = {source.name: source.weight for source in recipe.sources}
        names = [pair.source for pair in stock.pairs]
        shares = np.array([weight_of[name] / names.count(name) for name in names])
        self._shares = None if len(weight_of) == 1 else shares / shares.sum()

    def __len__(self) -> int:
        return self._recipe.fit.epochs * self.steps_per_epoch - self._first_step

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; each image once where the recipe says 0."""
        fit = self._recipe.fit
        return fit.steps_per_epoch or -(-len(self._stock) // fit.batch)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        step = self._first_step + index
        pairs = [self.crop(step, place)[:2] for place in range(self._recipe.fit.batch)]
        images, classes = zip(*pairs, strict=True)
        return np.stack(images).astype(np.float32), np.stack(classes)[..., None].astype(np.float32)

    def names(self, step: int) -> list[str]:
        """File names of the images of one step."""
        chosen = (self._chosen(step, place) for place in range(self._recipe.fit.batch))
        return [self._stock.pairs[index].image.name for index in chosen]

    def crop(self, step: int, place: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Labelled]:
        """One crop: RGB (H, W, 3), class of each pixel (H, W), and the image it was cut from."""
        recipe = self._recipe
        rng = np.random.default_rng((recipe.fit.seed, step, place))
        fit = recipe.input.fit
        if fit == "both":
            fit = "whole" if rng.random() < 0.5 else "native"
        item = self._stock.get(self._chosen(step, place), fit)
        image, classes = self._cut(rng, item, fit)
        augment = recipe.augment
        if augment.enabled and augment.paste_p > 0 and rng.random() < augment.paste_p:
            other = self._stock.get(int(rng.integers(len(self._stock))), fit)
            image, classes = paste_objects(rng, image, classes, *self._cut(rng, other, fit))
        return jitter_intensity(image, rng, augment), classes, item

    def _cut(
        self, rng: np.random.Generator, item: Labelled, fit: Scale
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Cut a crop from an image, as the eye sees it: its intensities are not changed yet."""
        width, height = self._recipe.input.size_px
        if fit == "whole":
            matrix = _from_corner(self._recipe.augment.enabled, rng, self._recipe, item)
        else:
            matrix = _somewhere(rng, self._recipe, item, (height, width))
        warp = draw_warp(rng, self._recipe.augment, matrix, (height, width))
        return sample_image(item.image, warp), sample_mask(item.classes, warp)

    def _chosen(self, step: int, place: int) -> int:
        """Index of an image: every one once before any comes again, sources by their weights."""
        seed, batch, count = self._recipe.fit.seed, self._recipe.fit.batch, len(self._stock)
        if self._shares is not None:
            rng = np.random.default_rng((seed, step, place, 1))
            return int(rng.choice(count, p=self._shares))
        turn, rest = divmod(step * batch + place, count)
        return int(np.random.default_rng((seed, turn, 2)).permutation(count)[rest])


def validation_crops(
    stock: Stock, recipe: Recipe, limit: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Crops of the validation images as they are: the whole image, or its middle at own scale.

    Parameters
    ----------
    stock : Stock
        Validation images.
    recipe : Recipe
        Size and scale.
    limit : int
        Most images, spread over all; 0: all of them.

    Yields
    ------
    (uint8 (H, W, 3), uint8 (H, W))
        Image and classes, mirrored where the image is smaller than the input.
    """
    count = min(limit or len(stock), len(stock))
    width, height = recipe.input.size_px
    for index in np.linspace(0, len(stock) - 1, count).round().astype(int):
        for scale in ("whole", "native"):
            if recipe.input.fit not in (scale, "both"):
                continue
            item = stock.get(int(index), scale)
            hw = item.classes.shape
            # Where the image is larger, its middle; where it is smaller, its corner.
            y, x = (
                max(0, (have - want) // 2) for have, want in zip(hw, (height, width), strict=True)
            )
            matrix = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
            warp = Positions(matrix, (height, width))
            yield sample_image(item.image, warp), sample_mask(item.classes, warp)


def _from_corner(
    changes: bool, rng: np.random.Generator, recipe: Recipe, item: Labelled
) -> NDArray[np.float64]:
    """Put the image's corner on the crop's, then zoom and turn about the middle if asked for."""
    width, height = recipe.input.size_px
    augment = recipe.augment
    if not changes or (augment.scale == (1.0, 1.0) and not augment.rotate):
        return np.eye(2, 3)
    matrix = random_affine(rng, item.classes.shape, min(width, height), augment)
    half = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix[:, 2] = half - matrix[:, :2] @ half
    return matrix


def _somewhere(
    rng: np.random.Generator, recipe: Recipe, item: Labelled, size_hw: tuple[int, int]
) -> NDArray[np.float64]:
    """Put the crop at a random place of the image, zoomed and turned."""
    height, width = size_hw
    matrix = random_affine(rng, item.classes.shape, max(height, width), recipe.augment)
    if height != width:  # keep the crop's own middle where the square's is
        side = max(height, width)
        shift = np.array([(side - width) / 2, (side - height) / 2])
        matrix[:, 2] += matrix[:, :2] @ shift
    return matrix
