"""Images and their masks on disk: found, paired, split and checked before any work is done.

A pair is an image and a mask of the same file name but for the suffix. A source names its folders
split by split, or one folder with ``train|valid|test`` in it, or one with ``images`` and ``masks``
alone. Where a split has no folder, a part of the training images is set aside for it, evenly over
the sorted names, never one image for two splits.
"""

from __future__ import annotations

import csv
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import DataError
from cellseg.runtime.slides.readers import open_slide

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from PIL.Image import Image as PillowImage

    from cellseg.train.sections import FolderPair, Recipe, SourceRecipe

__all__ = [
    "IMAGE_SUFFIXES",
    "SPLITS",
    "Pair",
    "check_sizes",
    "find_pairs",
    "image_files",
    "masks_of",
    "selected_stems",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
SPLITS = ("train", "valid", "test")
_TIFF_SUFFIXES = (".tif", ".tiff")
_WIDTH_TAG, _HEIGHT_TAG = 256, 257


@dataclass(frozen=True)
class Pair:
    """An image file and its mask file."""

    source: str
    """Name of the source it belongs to."""

    image: Path
    """The image."""

    mask: Path | None
    """Its mask; None for an image that is all background."""

    @property
    def stem(self) -> str:
        """File name of the image without suffix."""
        return self.image.stem


def image_files(folder: Path) -> list[Path]:
    """List the images of a folder, sorted by name.

    Raises
    ------
    DataError
        If there is no such folder or no image in it.
    """
    if not folder.is_dir():
        raise DataError(
            f"a folder of images must exist. Received: {folder}.",
            hint="check the recipe's paths, and --data, the folder that they start from.",
        )
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(
            f"a folder of images holds {', '.join(IMAGE_SUFFIXES)} files. "
            f"Received: none in {folder}."
        )
    return found


def find_pairs(recipe: Recipe, root: Path, split: str) -> list[Pair]:
    """Find the pairs of one split over all sources.

    Parameters
    ----------
    recipe : Recipe
        Its sources.
    root : Path
        Folder that their paths start from.
    split : str
        "train", "valid" or "test".

    Raises
    ------
    DataError
        If a folder is missing, or an image has no mask.
    """
    return [pair for source in _sources(recipe, root) for pair in _pairs_of(source, root, split)]


def _sources(recipe: Recipe, root: Path) -> tuple[SourceRecipe, ...]:
    """Return a recipe's sources; where there is but one, ``root`` may be its data set itself."""
    first = recipe.sources[0]
    if len(recipe.sources) > 1 or first.path is None or (root / first.path).is_dir():
        return recipe.sources
    is_set = any((root / inside / "images").is_dir() for inside in (*SPLITS, ""))
    return (first.model_copy(update={"path": "."}),) if is_set else recipe.sources


def masks_of(pairs: Iterable[Pair]) -> list[Path]:
    """List the mask files of pairs that have one."""
    return [pair.mask for pair in pairs if pair.mask is not None]


def check_sizes(pairs: Iterable[Pair]) -> None:
    """Check that every file is one image and every mask has its image's size, by their headers.

    Raises
    ------
    DataError
        It names the first file that is not.
    SlideError
        If a TIFF holds what inference would not read.
    """
    for pair in pairs:
        if pair.mask is None:
            continue
        sizes = [_image_size(pair.image), _header_size(pair.mask)]
        if sizes[0] != sizes[1]:
            raise DataError(
                "a mask must have its image's size. Received: "
                f"image={sizes[0][0]}x{sizes[0][1]}, mask={sizes[1][0]}x{sizes[1][1]}, "
                f"file={pair.mask}.",
                hint="export the mask again from the same image.",
            )


def _image_size(path: Path) -> tuple[int, int]:
    """Width and height; a TIFF is opened by inference's reader, which knows stacks and channels."""
    if path.suffix.lower() not in _TIFF_SUFFIXES:
        return _header_size(path)
    with closing(open_slide(path)) as slide:
        return slide.levels[0].width_px, slide.levels[0].height_px


def _header_size(path: Path) -> tuple[int, int]:
    from PIL import Image  # comes with matplotlib, in the train extra

    try:
        with Image.open(path) as image:
            size = _stored_size(image)
            pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            if pages > 1:
                image.seek(1)
            is_stack = pages > 1 and _stored_size(image) == size  # smaller pages are a pyramid
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, Image.DecompressionBombError):
            return _size_by_decoding(path)
        raise DataError(
            f"an image or mask must be readable. Received: {path}, which is not.",
            hint="it may be cut short or no image at all: replace it or take it out.",
        ) from error
    if is_stack:  # its first page alone would be taken, silently
        raise DataError(
            f"a mask is one picture. Received: {path} with {pages} pages.",
            hint="save the page that belongs to the image, or classes as numbers in one picture.",
        )
    return size


def _stored_size(image: PillowImage) -> tuple[int, int]:
    """Width and height as they are stored; Pillow turns a TIFF by its orientation."""
    tags = getattr(image, "tag_v2", None)  # a TIFF's
    return image.size if tags is None else (int(tags[_WIDTH_TAG]), int(tags[_HEIGHT_TAG]))


def _size_by_decoding(path: Path) -> tuple[int, int]:
    from cellseg.train.images.masks import read_image

    height, width = read_image(path).shape[:2]
    return width, height


def _pairs_of(source: SourceRecipe, root: Path, split: str) -> list[Pair]:
    wanted = selected_stems(source, root)
    if source.background:
        return _backgrounds(source, root, wanted) if split == "train" else []
    folders = _folders(source, root)
    own = folders.get(split)
    files = None if own is None else _paired(source, own, root)
    if files is None and "train" not in folders:
        raise _no_folders(next(iter(folders.values()))[0].parent.parent)
    if files is None:
        files = _part(source, _paired(source, folders["train"], root), folders, split)
    elif split == "train":
        files = _part(source, files, folders, split)
    return [pair for pair in files if _is_taken(pair, source, wanted)]


def _is_taken(pair: Pair, source: SourceRecipe, wanted: set[str] | None) -> bool:
    return pair.stem not in source.without and (wanted is None or pair.stem in wanted)


def _backgrounds(source: SourceRecipe, root: Path, wanted: set[str] | None) -> list[Pair]:
    """Training images without masks."""
    folder = root / source.train.images if source.train else root / str(source.path)
    for inside in ("train/images", "images"):
        folder = folder / inside if (folder / inside).is_dir() else folder
    pairs = [Pair(source.name, image, None) for image in image_files(folder)]
    return [pair for pair in pairs if _is_taken(pair, source, wanted)]


def _folders(source: SourceRecipe, root: Path) -> dict[str, tuple[Path, Path]]:
    """Folders of images and masks of each split that has its own."""
    named = {split: getattr(source, split) for split in SPLITS}
    if named["train"] is not None:
        found = {split: _both(pair, root) for split, pair in named.items() if pair is not None}
        if found["train"][0].is_dir() or not (root / "train" / "images").is_dir():
            return found
        return _below(root)  # as in `_sources`: --data names the data set itself
    folder = root / str(source.path)
    if not folder.is_dir():
        raise DataError(
            f"a source's folder must exist. Received: {folder}.",
            hint=f"--data is the folder that holds {source.path}.",
        )
    return _below(folder)


def _both(pair: FolderPair, root: Path) -> tuple[Path, Path]:
    return root / pair.images, root / pair.masks


def _below(folder: Path) -> dict[str, tuple[Path, Path]]:
    splits = {
        split: (folder / split / "images", folder / split / "masks")
        for split in SPLITS
        if (folder / split / "images").is_dir()
    }
    if "train" in splits:
        return splits
    if (folder / "images").is_dir():
        return {"train": (folder / "images", folder / "masks")}
    if splits:  # enough to score on
        return splits
    raise _no_folders(folder)


def _no_folders(folder: Path) -> DataError:
    return DataError(
        f"a source holds train/images and train/masks, or images/ and masks/. Received: {folder}.",
        hint="check the recipe's paths, and --data, the folder that they start from.",
    )


def _paired(source: SourceRecipe, folders: tuple[Path, Path], root: Path) -> list[Pair]:
    images = image_files(folders[0])
    if not folders[1].is_dir():
        raise DataError(
            f"a folder of masks must exist beside the images. Received: {folders[1]}.",
            hint="check the recipe's paths, and --data, the folder that they start from.",
        )
    masks: dict[str, Path] = {}
    for path in sorted(folders[1].iterdir(), reverse=True):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            masks[path.stem] = path
    missing = [image for image in images if image.stem not in masks]
    if missing:
        raise DataError(
            "every image needs a mask of its name. Received: none for "
            f"{missing[0]} ({len(missing)} of {len(images)} images have none).",
            hint=f"masks are looked for in {folders[1]}.",
        )
    return [Pair(source.name, image, masks[image.stem]) for image in images]


def _part(
    source: SourceRecipe, pairs: list[Pair], folders: dict[str, tuple[Path, Path]], split: str
) -> list[Pair]:
    """Part of the training images that belongs to a split, for splits without a folder."""
    shares = {
        "valid": 0.0 if "valid" in folders else source.valid_part,
        "test": 0.0 if "test" in folders else source.test_part,
    }
    place = _places(len(pairs), shares)
    return [pair for pair, name in zip(pairs, place, strict=True) if name == split]


def _places(count: int, shares: dict[str, float]) -> list[str]:
    """Split of each of ``count`` sorted images; at least one to each split that has a share."""
    found = np.full(count, "train", object)
    for name, share in shares.items():
        if share <= 0:
            continue
        free = np.flatnonzero(found == "train")
        wanted = min(max(1, round(share * count)), max(len(free) - 1, 0))
        # Evenly over the names: neighbours are often pictures of the same place.
        picked = ((np.arange(wanted) + 0.5) * len(free) / max(wanted, 1)).astype(int)
        found[free[picked]] = name
    return [str(name) for name in found]


def selected_stems(source: SourceRecipe, root: Path) -> set[str] | None:
    """Read the file names, without suffix, that a source's table selects; None: all of them.

    Raises
    ------
    DataError
        If the table cannot be read or lacks a column.
    """
    if source.table is None:
        return None
    path = root / str(source.path or ".") / source.table
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {
                row["stem"] for row in csv.DictReader(file) if row[source.column] in source.values
            }
    except (OSError, KeyError) as error:
        raise DataError(
            f"a table must be a CSV with the columns stem and {source.column}. Received: {path}."
        ) from error
