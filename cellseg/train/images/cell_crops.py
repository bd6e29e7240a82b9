"""Labelled images in memory, and the repeatable stream of training crops.

Images are read once, brought to 0..255 by the same function that inference uses, and kept as
uint8. The crops of a step depend on seed and step alone, so a resumed run sees the same ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import keras
import numpy as np

from cellseg.errors import DataError
from cellseg.runtime.evaluation.labelled import (
    LabelledImage as LabelledImage,  # what `load_source` gives
)
from cellseg.runtime.view.normalize import Normalize, measure_image
from cellseg.train.augment.crop import jitter_intensity, random_affine
from cellseg.train.augment.stain import dim_nuclei, is_bright_field, restain
from cellseg.train.augment.warp import draw_warp, sample_image, sample_mask
from cellseg.train.images.masks import read_image
from cellseg.train.images.pairs import IMAGE_SUFFIXES, selected_stems
from cellseg.train.images.targets import contact_weights, interior_border, normalized_distance
from cellseg.train.sections import NormalizeRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.train.sections import Recipe, SourceRecipe, TargetRecipe


def load_source(
    source: SourceRecipe, root: Path, split: str, normalize: NormalizeRecipe | None
) -> list[LabelledImage]:
    """Read the images of one source that belong to ``split``.

    Parameters
    ----------
    source : SourceRecipe
        Folder, and the part of it to take.
    root : Path
        Folder that ``source.path`` is relative to.
    split : str
        "train", "valid" or "test".
    normalize : NormalizeRecipe or None
        Intensity range, measured per image; None leaves images as they are, of 8 or 16 bits.

    Raises
    ------
    DataError
        If the folder is missing, an image has no labels, or their sizes differ.
    """
    labels_dir = root / str(source.path) / split / "labels"
    return [
        load_labelled(path, labels_dir, source.name, normalize)
        for path in source_images(source, root, split)
    ]


def source_images(source: SourceRecipe, root: Path, split: str) -> list[Path]:
    """List the image files of one source and split, sorted by name.

    Raises
    ------
    DataError
        If the folder is missing.
    """
    folder = root / str(source.path) / split / "images"
    if not folder.is_dir():
        raise DataError(
            f"a source holds {split}/images and {split}/labels. Received: {folder}.",
            hint="check --data, or the source's path in the recipe.",
        )
    wanted = selected_stems(source, root)
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    return [
        path
        for path in paths
        if path.stem not in source.without and (wanted is None or path.stem in wanted)
    ]


def load_labelled(
    path: Path, labels_dir: Path, source: str, normalize: NormalizeRecipe | None
) -> LabelledImage:
    """Read one image and its label map, and bring its intensities to 0..255 if asked for."""
    image = read_image(path)
    labels = _read_labels(labels_dir / f"{path.stem}.png")
    if labels.ndim != 2 or labels.shape != image.shape[:2]:
        raise DataError(
            "a label map has one channel and its image's size. "
            f"Received: image={image.shape}, labels={labels.shape}, file={path.name}.",
            hint="export the labels again from the same image.",
        )
    rgb = image if normalize is None else normalized(image, normalize)
    return LabelledImage(source, path.stem, rgb, labels.astype(np.uint16))


def normalized(
    image: NDArray[np.uint8] | NDArray[np.uint16], normalize: NormalizeRecipe
) -> NDArray[np.uint8]:
    """Bring a whole image's intensities to 0..255, as inference does for a whole slide."""
    wanted = Normalize(normalize.kind, normalize.low, normalize.high)
    return measure_image(image, wanted).seen(image)


def drawable(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image for a picture: one of 16 bits by its own range, as its upper 8 may be dim."""
    return image if image.dtype == np.uint8 else normalized(image, NormalizeRecipe())


def pack_target(labels: NDArray[np.uint16], target: TargetRecipe) -> NDArray[np.float32]:
    """Class, weight and, if asked for, distance as the loss reads them, shape (H, W, 2 or 3)."""
    classes = interior_border(labels, *target.widths)
    weights = contact_weights(labels, target.contact_weight, target.gap_px)
    channels = [classes.astype(np.float32), weights]
    channels += [normalized_distance(labels)] if target.distance else []
    return np.stack(channels, axis=-1)


class CropSequence(keras.utils.PyDataset):
    """Random crops for every step of a run; a step's are the same in every run with the same seed.

    Parameters
    ----------
    images : list of list of LabelledImage
        One list a source.
    recipe : Recipe
        Crop size, batch, weights of the sources, augmentation, seed, number of steps.
    first_step : int
        Step that item 0 belongs to: where a resumed run goes on.
    """

    def __init__(
        self,
        images: list[list[LabelledImage]],
        recipe: Recipe,
        first_step: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        shares = np.array([source.weight for source in recipe.sources], float)
        self._images, self._recipe = images, recipe
        self._shares = shares / shares.sum()
        self._draws = [
            _draws(group, source.draw) for group, source in zip(images, recipe.sources, strict=True)
        ]
        self._first_step = first_step

    def __len__(self) -> int:
        return self._recipe.fit.epochs * self.steps_per_epoch - self._first_step

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        images, labels = zip(*self._pairs(self._first_step + index), strict=True)
        targets = [pack_target(ids, self._recipe.target) for ids in labels]
        return np.stack(images).astype(np.float32), np.stack(targets)

    def labels_of(self, step: int) -> list[NDArray[np.uint16]]:
        """Label maps of one step's crops."""
        return [labels for _, labels in self._pairs(step)]

    def _pairs(self, step: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint16]]]:
        rng = np.random.default_rng((self._recipe.fit.seed, step))
        return [self.crop(rng, source) for source in self._sources_of_batch(rng)]

    def names(self, step: int) -> list[str]:
        """Name the sources of one step's crops; which of their images is drawn with the crop."""
        rng = np.random.default_rng((self._recipe.fit.seed, step))
        return [self._recipe.sources[i].name for i in self._sources_of_batch(rng)]

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; as many crops as images where the recipe says 0."""
        fit = self._recipe.fit
        return fit.steps_per_epoch or -(-sum(map(len, self._images)) // fit.batch)

    def crop(
        self, rng: np.random.Generator, source: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """One augmented crop of a source: RGB uint8 (S, S, 3) and ids uint16 (S, S)."""
        recipe = self._recipe
        group = self._images[source]
        draws = self._draws[source]
        item = group[rng.integers(len(group)) if draws is None else rng.choice(len(group), p=draws)]
        size = recipe.fit.crop_px
        matrix = random_affine(rng, item.labels.shape, size, recipe.augment)
        warp = draw_warp(rng, recipe.augment, matrix, (size, size))
        image, labels = sample_image(item.image, warp), sample_mask(item.labels, warp)
        if not recipe.augment.enabled:
            return image, labels
        if is_bright_field(item.image):
            if rng.random() < recipe.augment.restain_p:
                image = restain(image, labels, rng)
        elif rng.random() < recipe.augment.dim_p:
            image = dim_nuclei(image, labels, rng)
        return jitter_intensity(image, rng, recipe.augment), labels

    def _sources_of_batch(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Draw sources by systematic sampling: every batch holds nearly the same mixture.

        BatchNorm needs it. Drawn independently, one batch is all dark fluorescence and the next all
        bright tissue; its statistics then differ more than the running mean can stand for.
        """
        count = self._recipe.fit.batch
        marks = (np.arange(count) + rng.random()) / count
        return np.minimum(np.searchsorted(self._shares.cumsum(), marks), len(self._images) - 1)


def _draws(group: list[LabelledImage], draw: str) -> NDArray[np.float64] | None:
    """Probability of each image of a source to give the next crop; None where all have the same.

    In proportion to its objects, a few crowded images would be nearly all that is seen; drawn
    evenly, hundreds of small images with a handful of nuclei hide the crowds where nuclei are
    missed. The root lies between.
    """
    if draw == "evenly":
        return None
    often = np.sqrt([np.count_nonzero(np.bincount(item.labels.ravel())[1:]) + 1 for item in group])
    return np.asarray(often / often.sum())


def padded_to(array: NDArray[Any], stride: int) -> NDArray[Any]:
    """Repeat the last row and column until both sides are multiples of ``stride``."""
    height, width = array.shape[:2]
    margins = [(0, -height % stride), (0, -width % stride)] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, margins, mode="edge")


def _read_labels(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise DataError(f"every image needs a label map of its name. Received: {path} is missing.")
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise DataError(f"a label map cannot be decoded. Received: {path}.")
    return array
