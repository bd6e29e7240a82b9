"""A folder an image, a mask file an object: the form of the Data Science Bowl 2018.

::

    SOURCE/<id>/images/<id>.png
    SOURCE/<id>/masks/<one file a nucleus>.png

or ``SOURCE/images/<id>.png`` with ``SOURCE/masks/<id>/<one file a nucleus>.png``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellseg.data.annotations.drawing import Drawing
from cellseg.data.annotations.mask_files import default_classes, image_or_pixels
from cellseg.data.form.pairs import split_of, unique_stems
from cellseg.data.form.pixels import read_mask
from cellseg.data.form.sample import Annotated, Change, Sample
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cellseg.data.form.pairs import Found, Key

__all__ = ["is_nucleus_folders", "read_nucleus_folders"]


def is_nucleus_folders(files: Sequence[Found]) -> bool:
    """Tell whether most folders hold one image and masks of other names."""
    images, masks = _by_folder(files)
    named = {item.key for item in files if item.part != "image"}
    unlike = [
        folder
        for folder, paths in images.items()
        if len(paths) == 1 and folder in masks and (*folder, paths[0].stem) not in named
    ]
    return bool(unlike) and len(unlike) > len(images) / 2


def read_nucleus_folders(files: Sequence[Found], root: Path, names: Sequence[str]) -> Annotated:
    """Read folders with one image and a mask an object.

    Raises
    ------
    DataError
        If a folder has no mask, or not exactly one image.
    """
    images, masks = _by_folder(files)
    for folder in sorted(images.keys() | masks.keys()):
        if len(images.get(folder, ())) != 1 or not masks.get(folder):
            raise DataError(
                "Each folder holds one image and a mask for each object. Received: "
                f"{'/'.join(folder)} with {len(images.get(folder, ()))} images and "
                f"{len(masks.get(folder, ()))} masks.",
                hint="An image without objects has one mask that is black.",
            )
    stems = unique_stems(sorted(images))

    def samples() -> Iterator[Sample]:
        for folder in sorted(images):
            split = split_of(folder[:-1])
            yield _sample(images[folder][0], masks[folder], stems[folder], split, root)

    return Annotated("folders", default_classes(1, names), len(images), samples)


def _by_folder(files: Sequence[Found]) -> tuple[dict[Key, list[Path]], dict[Key, list[Path]]]:
    images: dict[Key, list[Path]] = {}
    masks: dict[Key, list[Path]] = {}
    for item in files:
        if item.part != "image":
            masks.setdefault(item.folder, []).append(item.path)
    for item in files:
        if item.part == "image":
            folder = item.key if item.key in masks else item.folder
            images.setdefault(folder, []).append(item.path)
    images.pop((), None)
    return images, masks


def _sample(path: Path, masks: Sequence[Path], stem: str, split: str, root: Path) -> Sample:
    image, pixels = image_or_pixels(path)
    drawing = Drawing((pixels.shape[0], pixels.shape[1]))
    for mask_path in masks:
        mask = read_mask(mask_path)
        if mask.shape[:2] != pixels.shape[:2]:
            raise DataError(
                f"A mask has the size of its image, {pixels.shape[1]} x {pixels.shape[0]} px. "
                f"Received: {mask_path} with {mask.shape[1]} x {mask.shape[0]}."
            )
        grey = mask.max(-1) if mask.ndim == 3 else mask
        drawing.add_mask(grey > grey.max() // 2, 1)
    origin = path.relative_to(root).as_posix()
    changes = (Change("{n} masks of one object joined", len(masks)), *drawing.changes())
    return Sample(stem, split, image, drawing.classes, drawing.labels, origin, changes)
