"""A data set on disk: its images with their masks and labels, split or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.form.pairs import IMAGE_SUFFIXES, points_hint
from cellseg.data.form.pixels import read_image, read_mask
from cellseg.data.form.sample import SPLITS
from cellseg.errors import DataError
from cellseg.runtime.bundles.class_file import CLASS_FILE, ClassFile, MaskClass

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Dataset", "Item", "check_sizes", "open_dataset"]


@dataclass(frozen=True)
class Item:
    """One image of a data set."""

    split: str
    """"train", "valid", "test", or "" in a data set that is not split."""
    image: Path
    mask: Path | None
    labels: Path | None

    @property
    def stem(self) -> str:
        """File name without suffix."""
        return self.image.stem

    @property
    def name(self) -> str:
        """Split and stem, for messages."""
        return f"{self.split}/{self.stem}" if self.split else self.stem

    def read_rgb(self) -> NDArray[np.uint8]:
        """Image as uint8 RGB (H, W, 3); 16 bits are brought to 8 by their full range."""
        image = read_image(self.image)
        return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)


@dataclass(frozen=True)
class Dataset:
    """Images with annotations, in the form that `data import` writes."""

    root: Path
    classes: tuple[MaskClass, ...]
    """Foreground classes; class index i + 1 is entry i."""
    items: tuple[Item, ...]

    def read_classes(self, item: Item) -> NDArray[np.uint8]:
        """Class index of each pixel, shape (H, W); objects where there are labels only."""
        if item.mask is None:
            assert item.labels is not None  # `open_dataset` saw to it
            return (read_mask(item.labels) > 0).astype(np.uint8)
        mask = read_mask(item.mask)
        table = np.zeros(256, np.uint8)
        for index, entry in enumerate(self.classes, start=1):
            table[entry.value] = index
        strange = set(np.unique(mask).tolist()) - {0, *(entry.value for entry in self.classes)}
        if strange or mask.ndim != 2:
            raise DataError(
                f"A mask holds the values of classes.json. Received: {sorted(strange)[:8]} in "
                f"{item.mask}.",
                hint="Bring the data in with 'cellseg-cli data import' first.",
            )
        return np.asarray(table[mask], np.uint8)

    def read_labels(self, item: Item) -> NDArray[Any] | None:
        """Instance ids, shape (H, W); None where there are none."""
        return None if item.labels is None else read_mask(item.labels)


def check_sizes(
    item: Item, image: NDArray[Any], classes: NDArray[Any], labels: NDArray[Any] | None
) -> None:
    """Refuse masks and labels that do not lie on their image.

    Raises
    ------
    DataError
        If one has another size.
    """
    for path, found in ((item.mask, classes), (item.labels, labels)):
        if path is not None and found is not None and found.shape != image.shape[:2]:
            raise DataError(
                "Masks and labels have the size of their image, "
                f"{image.shape[1]} x {image.shape[0]} px. "
                f"Received: {path} with {' x '.join(map(str, found.shape[1::-1]))}."
            )


def open_dataset(root: Path) -> Dataset:
    """List a data set.

    Raises
    ------
    DataError
        If the folder has no images, or an image has neither mask nor labels.
    """
    places = [(split, root / split) for split in SPLITS if (root / split / "images").is_dir()]
    places = places or [("", root)]
    items = [item for split, folder in places for item in _items(split, folder)]
    if not items:
        raise DataError(
            f"A data set holds images/ with masks/ or labels/, or these in train/ valid/ test/. "
            f"Received: no image in {root}.",
            hint="Bring other forms in with 'cellseg-cli data import'.",
        )
    file = next((p / CLASS_FILE for p in (root, root.parent) if (p / CLASS_FILE).is_file()), None)
    if file is None:
        classes: tuple[MaskClass, ...] = (MaskClass(255, "cell"),)
    else:
        classes = tuple(entry for entry in ClassFile.read(file).classes if entry.value > 0)
    return Dataset(root, classes, tuple(items))


def _items(split: str, folder: Path) -> list[Item]:
    found = []
    paths = sorted((folder / "images").iterdir()) if (folder / "images").is_dir() else []
    for path in paths:
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        mask, labels = (folder / part / f"{path.stem}.png" for part in ("masks", "labels"))
        if not mask.is_file() and not labels.is_file():
            raise DataError(
                f"Every image has a mask or labels of its name. Received: none for {path}.",
                hint=points_hint(folder) or "Bring other forms in with 'cellseg-cli data import'.",
            )
        found.append(
            Item(
                split, path, mask if mask.is_file() else None, labels if labels.is_file() else None
            )
        )
    return found
