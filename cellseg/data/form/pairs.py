"""Which file is an image, which its mask, and which belong together.

A folder tells a file's part by its name (``images``, ``masks``, ``labels`` and their synonyms), or
a file does by how its stem ends or begins (``a.png`` beside ``a_mask.png``). What is left of the
path, the part taken out, must be the same for an image and its mask::

    train/images/Early/001.jpg   -> key (train, Early, 001), an image
    train/masks/Early/001.png    -> key (train, Early, 001), its mask
    train_masks/mask_002.png     -> key (train, mask_002), which pairs with train_images/img_002.png
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = [
    "IMAGE_SUFFIXES",
    "Found",
    "Pair",
    "find_files",
    "pair_files",
    "points_hint",
    "split_of",
    "unique_stems",
]

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
_MASK_SUFFIXES = IMAGE_SUFFIXES | {".npy", ".npz", ".gif", ".webp"}

_PARTS = {
    "mask": {
        "masks", "mask", "segmented", "segmentation", "segmentations", "gt", "ground_truth",
        "groundtruth", "annotations", "annotation", "targets", "target", "segments", "msk",
        "segmentationclass",
    },
    "labels": {"labels", "label", "instances", "instance", "segmentationobject"},
    "image": {
        "images", "image", "img", "imgs", "original", "originals", "raw", "inputs", "input",
        "jpegimages",
    },
}  # fmt: skip
_PART_OF = {name: part for part, names in _PARTS.items() for name in names}
_SIGNS = re.compile(r"[ _.-]+")
_MASK_WORD = "masks?|msk|seg|segm|segmentation|labels?|instances?|gt|annotations?"
_MASK_END = re.compile(rf"[ _.-]+((cp[ _.-])?({_MASK_WORD}))$", re.I)
_MASK_BEGIN = re.compile(rf"^({_MASK_WORD})[ _.-]+(?=.)", re.I)
_IMAGE_WORD = "images?|imgs?|raw|orig|original"
_IMAGE_ENDS = re.compile(rf"^({_IMAGE_WORD})[ _.-]+(?=.)|[ _.-]+({_IMAGE_WORD})$", re.I)
_SPLIT_OF = {
    "train": "train", "training": "train", "valid": "valid", "val": "valid",
    "validation": "valid", "test": "test", "testing": "test",
}  # fmt: skip
_SHOWN = 5

Key = tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A file with its part and what is left of its path."""

    path: Path
    part: str
    """"image", "mask" or "labels"."""
    folder: Key
    """Folders from the source on, the part's own left out."""
    stem: str

    @property
    def key(self) -> Key:
        """What image and mask share."""
        return (*self.folder, self.stem)


@dataclass(frozen=True)
class Pair:
    """An image with its mask, its labels, or both."""

    key: Key
    image: Path
    mask: Path | None
    labels: Path | None


def find_files(root: Path) -> list[Found]:
    """Classify every image file below a folder; hidden ones are passed over."""
    paths = {path: path.relative_to(root) for path in sorted(root.rglob("*"))}
    folders = _parts_of_folders(inside.parts for path, inside in paths.items() if path.is_dir())
    found = []
    for path, inside in paths.items():
        hidden = any(part.startswith((".", "__MACOSX")) for part in inside.parts)
        if path.suffix.lower() in _MASK_SUFFIXES and path.is_file() and not hidden:
            item = _classify(path, inside, folders)
            if item.part != "image" or path.suffix.lower() in IMAGE_SUFFIXES:
                found.append(item)
    return _masks_among_images(found)


def pair_files(files: Iterable[Found], root: Path) -> list[Pair]:
    """Join images with their masks and labels.

    Raises
    ------
    DataError
        If an image lacks a mask, a mask an image, or two files claim the same place.
    """
    table: dict[str, dict[Key, Path]] = {"image": {}, "mask": {}, "labels": {}}
    for item in files:
        other = table[item.part].setdefault(item.key, item.path)
        if other != item.path:
            raise DataError(
                "One image has one file and one mask. "
                f"Received: {other.relative_to(root)} and {item.path.relative_to(root)}.",
                hint="Remove one of them, or give a folder that holds one set.",
            )
    for part in ("mask", "labels"):
        table[part] = _renamed_like(table["image"], table[part])
    images, annotated = table["image"], table["mask"].keys() | table["labels"].keys()
    _check_partners(images.keys(), annotated, root)
    return [
        Pair(key, images[key], table["mask"].get(key), table["labels"].get(key))
        for key in sorted(images)
    ]


def split_of(folder: Sequence[str]) -> str:
    """``train``, ``valid`` or ``test`` where a folder of the path says so, else an empty string.

    Examples
    --------
    >>> split_of(["coco", "val2017"])
    'valid'
    """
    named = [_SPLIT_OF[name] for name in map(_without_digits, folder) if name in _SPLIT_OF]
    return named[0] if named else ""


def unique_stems(keys: Sequence[Key]) -> dict[Key, str]:
    """Stem of each key: its last part, with the folders before it where that would come twice."""
    short: dict[tuple[str, str], list[Key]] = {}
    for key in keys:
        short.setdefault((split_of(key[:-1]), _plain(key[-1])), []).append(key)
    stems = {}
    for (_, stem), group in short.items():
        for key in group:
            folders = [part for part in key[:-1] if _without_digits(part) not in _SPLIT_OF]
            stems[key] = stem if len(group) == 1 else _plain("_".join([*folders, key[-1]]))
    taken: set[tuple[str, str]] = set()
    for key, stem in stems.items():
        split, number = split_of(key[:-1]), 1
        while (split, stems[key]) in taken:
            number += 1
            stems[key] = f"{stem}_{number}"
        taken.add((split, stems[key]))
    return stems


def _plain(name: str) -> str:
    """Keep letters, digits and a few signs, so that a name is a name on any system."""
    return re.sub(r"[^\w.+ ()-]", "_", name).strip(" .") or "_"


def _without_digits(name: str) -> str:
    return name.lower().rstrip("0123456789")


def _classify(path: Path, inside: Path, folders: dict[Key, tuple[str, str]]) -> Found:
    folder, stem = list(inside.parts[:-1]), re.sub(r"\.ome$", "", inside.stem, flags=re.I)
    for place in reversed(range(len(folder))):
        part, rest = folders.get(tuple(folder[: place + 1]), ("", ""))
        if part:
            folder[place : place + 1] = [rest] if rest else []
            stem = stem if part == "image" else _MASK_END.sub("", stem)
            return Found(path, part, tuple(folder), stem)
    plain = _MASK_BEGIN.sub("", _MASK_END.sub("", stem))
    return Found(path, "image" if plain == stem else "mask", tuple(folder), plain)


def _parts_of_folders(folders: Iterable[Key]) -> dict[Key, tuple[str, str]]:
    """Part of each folder that has one, and what else its name says.

    A name that says more, ``train_images``, counts if there is a ``train_masks`` beside it.

    Examples
    --------
    >>> _parts_of_folders([("Ground Truth",), ("my images",)])
    {('Ground Truth',): ('mask', '')}
    >>> _parts_of_folders([("train_images",), ("train_gt",)])
    {('train_images',): ('image', 'train'), ('train_gt',): ('mask', 'train')}
    """
    found = {folder: _part_of(folder[-1]) for folder in folders}
    beside: dict[Key, set[bool]] = {}
    for folder, (part, rest) in found.items():
        if part:
            beside.setdefault((*folder[:-1], rest), set()).add(part == "image")
    return {
        folder: (part, rest)
        for folder, (part, rest) in found.items()
        if part and (not rest or len(beside[(*folder[:-1], rest)]) == 2)
    }


def _part_of(name: str) -> tuple[str, str]:
    whole = _PART_OF.get("_".join(_SIGNS.split(name.lower())))
    if whole:
        return whole, ""
    words = _SIGNS.split(name)
    for part, known in _PARTS.items():  # "label_images" holds labels: images come last
        for place in {0, len(words) - 1}:
            if words[place].lower() in known:
                return part, "_".join(words[:place] + words[place + 1 :])
    return "", name


def _masks_among_images(found: list[Found]) -> list[Found]:
    """Take ``images/a_mask.png`` beside ``images/a.png`` for its mask."""
    images = {item.key for item in found if item.part == "image"}
    return [
        replace(item, part="mask", stem=plain)
        if item.part == "image"
        and (plain := _MASK_END.sub("", item.stem)) != item.stem
        and (*item.folder, plain) in images
        else item
        for item in found
    ]


def _renamed_like(images: dict[Key, Path], annotated: dict[Key, Path]) -> dict[Key, Path]:
    """Give masks without an image the key of the image that differs by words such as ``img_``."""
    plain: dict[Key, list[Key]] = {}
    for key in images.keys() - annotated.keys():
        plain.setdefault(_bare(key, _IMAGE_ENDS), []).append(key)
    names: dict[Key, Key] = {}
    for key in annotated.keys() - images.keys():
        fitting = plain.get(_bare(key, _MASK_BEGIN), [])
        if len(fitting) == 1 and fitting[0] not in names.values():
            names[key] = fitting[0]
    return {names.get(key, key): path for key, path in annotated.items()}


def _bare(key: Key, words: re.Pattern[str]) -> Key:
    return (*key[:-1], words.sub("", key[-1]))


def _check_partners(images: Iterable[Key], annotated: Iterable[Key], root: Path) -> None:
    alone = sorted(set(images) - set(annotated))
    orphans = sorted(set(annotated) - set(images))
    if not alone and not orphans:
        if not images:
            raise DataError(
                f"A source holds images and masks. Received: no image in {root}.",
                hint="e.g. SOURCE/images/a.png and SOURCE/masks/a.png.",
            )
        return
    parts = [f"{len(alone)} images without a mask ({_some(alone)})"] if alone else []
    parts += [f"{len(orphans)} masks without an image ({_some(orphans)})"] if orphans else []
    raise DataError(
        f"Every image needs a mask of the same name and every mask an image. Received: {root} with "
        f"{' and '.join(parts)}.",
        hint=points_hint(root)
        or "Name them alike (images/a.png, masks/a.png or a_mask.png), or remove what has no "
        "partner.",
    )


def points_hint(root: Path) -> str | None:
    """Say what becomes of images whose cells are marked by points; None where there are none."""
    if next(root.rglob("points/*.csv"), None) is None:
        return None
    return (
        "points/ say where cells are, not what belongs to them; red cells become labelled smears "
        "by 'cellseg-cli data synthesize -o FOLDER --red DATASET'."
    )


def _some(keys: Sequence[Key]) -> str:
    shown = ", ".join("/".join(key) for key in keys[:_SHOWN])
    return shown + (", ..." if len(keys) > _SHOWN else "")
