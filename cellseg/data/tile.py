"""``data tile``: large annotated images cut into tiles that training holds in memory.

The last tile of a row lies flush with the border instead of being padded, so that no black edge is
learned. What shows no object is skipped, or a part of it kept as background.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.form.dataset import Dataset, Item, check_sizes, open_dataset
from cellseg.data.form.grid import tile_origins
from cellseg.data.form.pixels import read_image
from cellseg.data.form.sample import Change, Sample
from cellseg.data.form.writer import DatasetWriter, read_manifest, staged
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["TileOptions", "TileReport", "tile_data"]


@dataclass(frozen=True)
class TileOptions:
    """How images are cut."""

    tile_px: int = 512
    """Side of a tile; an image that is smaller stays whole."""
    overlap_px: int = 0
    """Pixels that neighbouring tiles share."""
    min_foreground: float = 0.001
    """Part of a tile that must be foreground."""
    keep_empty: float = 0.0
    """Part of the other tiles that is kept nevertheless, as background to learn."""
    reduced: bool = False
    """Add each image as a whole, reduced to a tile's size, as seed 004 did."""
    seed: int = 0
    """Decides which empty tiles are kept."""


@dataclass
class TileReport:
    """What was cut."""

    images: int
    tiles: int
    skipped: int
    """Tiles without enough foreground."""


def tile_data(
    source: Path,
    out: Path,
    options: TileOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TileReport:
    """Cut a data set into tiles; splits are kept.

    Raises
    ------
    DataError
        If tile and overlap do not fit together, or no tile is left.
    """
    options = options or TileOptions()
    if not 0 <= options.overlap_px < options.tile_px:
        raise DataError(
            "Tiles overlap by less than their side. "
            f"Received: tile={options.tile_px}, overlap={options.overlap_px}."
        )
    dataset = open_dataset(source)
    rng = np.random.default_rng(options.seed)
    skipped = 0
    with staged(out) as stage:
        writer = DatasetWriter(stage, dataset.classes)
        known = read_manifest(source)
        for done, item in enumerate(dataset.items, start=1):
            row = known.get(item.stem, {})
            origin = row.get("origin") or item.image.name
            parent = row.get("parent") or item.stem
            for tile in _tiles(dataset, item, options):
                sample = replace(tile, origin=origin, parent=parent)
                share = np.count_nonzero(sample.classes) / sample.classes.size
                if share >= options.min_foreground or rng.random() < options.keep_empty:
                    writer.add(sample)
                else:
                    skipped += 1
            if progress is not None:
                progress(done, len(dataset.items))
        if not writer.rows:
            raise DataError(
                f"A tile is kept if {options.min_foreground:g} of it is foreground. Received: none "
                f"of {skipped} tiles in {source}.",
                hint="Lower --min-foreground, or keep some with --keep-empty 0.1.",
            )
        writer.finish()
    return TileReport(len(dataset.items), len(writer.rows), skipped)


def _tiles(dataset: Dataset, item: Item, options: TileOptions) -> Iterator[Sample]:
    image, classes = read_image(item.image), dataset.read_classes(item)
    labels = dataset.read_labels(item)
    check_sizes(item, image, classes, labels)
    side, step = options.tile_px, options.tile_px - options.overlap_px
    for y0 in tile_origins(classes.shape[0], side, step):
        for x0 in tile_origins(classes.shape[1], side, step):
            window = np.s_[y0 : y0 + side, x0 : x0 + side]
            name = f"{item.stem}_x{x0}_y{y0}"
            part = None if labels is None else labels[window]
            yield _sample(item, name, image[window], classes[window], part, "cut into tiles")
    if options.reduced and max(classes.shape) > side:
        small = [_reduced(a, side) for a in (image, classes)]
        ids = None if labels is None else _reduced(labels, side)
        said = "whole image reduced to a tile's size"
        yield _sample(item, f"{item.stem}_whole", small[0], small[1], ids, said)


def _sample(
    item: Item,
    stem: str,
    image: NDArray[Any],
    classes: NDArray[Any],
    labels: NDArray[Any] | None,
    said: str,
) -> Sample:
    return Sample(stem, item.split, image, classes, labels, item.image.name, (Change(said),))


def _reduced(array: NDArray[Any], side: int) -> NDArray[Any]:
    """Reduce to a longest side: averaged for an image, nearest for classes and ids."""
    import cv2

    scale = side / max(array.shape[:2])
    size = tuple(max(1, round(extent * scale)) for extent in array.shape[1::-1])
    kind = cv2.INTER_AREA if array.ndim == 3 else cv2.INTER_NEAREST_EXACT
    plain = array.astype(np.int32) if array.dtype == np.uint32 else array
    return np.asarray(cv2.resize(plain, size, interpolation=kind))
