"""Images of a split with their truth, each at its own size: what pixels are scored against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import DataError
from cellseg.train.images.class_names import check_class_names
from cellseg.train.images.masks import fit_mask_rule, needs_threshold, read_image
from cellseg.train.images.pairs import check_sizes, find_pairs, masks_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.images.pairs import Pair
    from cellseg.train.sections import Recipe

__all__ = ["Truth", "labelled_images"]


@dataclass(frozen=True)
class Truth:
    """A labelled image at its own size."""

    source: str
    """Source of the image."""

    name: str
    """File name."""

    image: NDArray[Any]
    """RGB as it was read, shape (H, W, 3)."""

    classes: NDArray[np.uint8]
    """Class of each pixel, shape (H, W)."""


def labelled_images(recipe: Recipe, root: Path, split: str) -> Iterator[tuple[int, Truth]]:
    """Read the images of a split one by one, with their number.

    Raises
    ------
    DataError
        If there are none, or images and masks do not fit.
    """
    if recipe.target.kind == "instances":
        yield from _instance_images(recipe, root, split)
        return
    pairs = find_pairs(recipe, root, split)
    if not pairs:
        raise DataError(
            f"a split to score on holds images. Received: none in {split}.",
            hint="name sources.test in the recipe, set sources.test_part, or say --split valid.",
        )
    check_sizes(pairs)
    trained_on = _trained_on(recipe, root) if needs_threshold(recipe) else []
    rule = fit_mask_rule(recipe, masks_of(trained_on))
    check_class_names(recipe, rule, pairs)
    for pair in pairs:
        image = read_image(pair.image)
        nothing = np.zeros(image.shape[:2], np.uint8)
        classes = nothing if pair.mask is None else rule.read(pair.mask)
        yield len(pairs), Truth(pair.source, pair.image.name, image, classes)


def _trained_on(recipe: Recipe, root: Path) -> list[Pair]:
    try:
        return find_pairs(recipe, root, "train")
    except DataError as error:
        raise DataError(
            f"the training masks tell where grey masks are cut. Received: none; {error}",
            hint="where they are not at hand, say it: --set mask.threshold=127.",
        ) from error


def _instance_images(recipe: Recipe, root: Path, split: str) -> Iterator[tuple[int, Truth]]:
    from cellseg.train.scores.evaluate import load_split

    items = load_split(recipe, root, split)
    for item in items:
        yield (
            len(items),
            Truth(item.source, item.stem, item.image, (item.labels > 0).astype(np.uint8)),
        )
