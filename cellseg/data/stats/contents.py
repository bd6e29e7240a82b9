"""``data stats``: what a data set holds, before anything is trained on it.

Counts, sizes, balance of classes, spread of intensity and stain, and the sizes of objects against
what a network can see: an object much larger than the receptive field cannot be told from its
inside alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.form.dataset import Dataset, Item, check_sizes, open_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ImageStats", "Stats", "measure_data"]

# Optical densities in red, green, blue of haematoxylin, eosin and DAB, as columns of unit length
# (Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23, 291-299, 2001).
_STAINS = np.array([(0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)])
_UNMIX = np.linalg.inv(_STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True))


@dataclass(frozen=True)
class ImageStats:
    """One image; columns of ``stats.csv``."""

    split: str
    stem: str
    width_px: int
    height_px: int
    foreground_fraction: float
    objects: int
    median_diameter_px: float | None
    """Equivalent diameter of its objects; empty where there are none."""
    largest_diameter_px: float | None
    mean_red: float
    mean_green: float
    mean_blue: float
    std_intensity: float
    haematoxylin_od: float
    """Mean optical density by stain deconvolution; meaningful for bright-field images only."""
    eosin_od: float


@dataclass
class Stats:
    """A whole data set."""

    images: list[ImageStats] = field(default_factory=list)
    class_pixels: Counter[str] = field(default_factory=Counter)
    """Class to pixels; the background is a class, too."""
    class_images: Counter[str] = field(default_factory=Counter)
    """Class to images that show it."""
    diameters_px: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Equivalent diameter of every object."""
    object_images: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    """Index of the image that each object is in."""
    class_values: dict[str, int] = field(default_factory=dict)
    """Foreground class to the value of its pixels in the masks."""
    has_labels: list[bool] = field(default_factory=list)
    """Whether the objects of each image are numbered."""

    def class_weights(self) -> dict[str, float]:
        """Return all pixels over a class's own, as seed 003 weighs its loss."""
        total = sum(self.class_pixels.values())
        return {name: round(total / n, 2) for name, n in self.class_pixels.items() if n}


def measure_data(source: Path, progress: Callable[[int, int], None] | None = None) -> Stats:
    """Measure a data set.

    Parameters
    ----------
    source : Path
        Folder that `data import` wrote, split or not.
    progress : callable, optional
        Called with images done and images in all.

    Raises
    ------
    DataError
        If it is no data set.
    """
    dataset = open_dataset(source)
    stats = Stats()
    stats.class_pixels["background"] = 0
    for entry in dataset.classes:
        stats.class_pixels[entry.name] = stats.class_images[entry.name] = 0
        stats.class_values[entry.name] = entry.value
    diameters: list[NDArray[np.float64]] = []
    for done, item in enumerate(dataset.items, start=1):
        row, found = _measure(dataset, item, stats)
        stats.images.append(row)
        diameters.append(found)
        stats.has_labels.append(item.labels is not None)
        if progress is not None:
            progress(done, len(dataset.items))
    stats.diameters_px = np.concatenate(diameters)
    stats.object_images = np.repeat(np.arange(len(diameters)), [len(d) for d in diameters])
    return stats


def _measure(dataset: Dataset, item: Item, stats: Stats) -> tuple[ImageStats, NDArray[np.float64]]:
    classes, rgb, labels = dataset.read_classes(item), item.read_rgb(), dataset.read_labels(item)
    check_sizes(item, rgb, classes, labels)
    names = ["background", *(entry.name for entry in dataset.classes)]
    counts = np.bincount(classes.ravel(), minlength=len(names)).tolist()
    stats.class_pixels.update(dict(zip(names, counts, strict=True)))
    stats.class_images.update({n: 1 for n, c in zip(names[1:], counts[1:], strict=True) if c})
    diameters = _diameters(classes, labels)
    density = _stain_densities(rgb)
    red, green, blue = rgb.reshape(-1, 3).mean(0).tolist()
    row = ImageStats(
        split=item.split,
        stem=item.stem,
        width_px=classes.shape[1],
        height_px=classes.shape[0],
        foreground_fraction=round(sum(counts[1:]) / classes.size, 4),
        objects=len(diameters),
        median_diameter_px=round(float(np.median(diameters)), 1) if len(diameters) else None,
        largest_diameter_px=round(float(diameters.max()), 1) if len(diameters) else None,
        mean_red=round(red, 1),
        mean_green=round(green, 1),
        mean_blue=round(blue, 1),
        std_intensity=round(float(rgb.mean(-1).std()), 1),
        haematoxylin_od=round(density[0], 3),
        eosin_od=round(density[1], 3),
    )
    return row, diameters


def _diameters(classes: NDArray[np.uint8], labels: NDArray[Any] | None) -> NDArray[np.float64]:
    """Equivalent diameter of each object, 2 sqrt(area / pi)."""
    import cv2

    if labels is None:
        labels = cv2.connectedComponents((classes > 0).astype(np.uint8))[1]
    _, areas = np.unique(labels[labels > 0], return_counts=True)
    return np.asarray(2 * np.sqrt(areas / np.pi), np.float64)


def _stain_densities(rgb: NDArray[np.uint8]) -> Sequence[float]:
    """Mean optical density of haematoxylin, eosin and DAB, from every fourth pixel."""
    density = -np.log10((rgb[::2, ::2].reshape(-1, 3).astype(np.float64) + 1) / 256)
    return [float(v) for v in np.maximum(density @ _UNMIX, 0).mean(0)]
