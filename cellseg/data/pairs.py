"""Which file is an image, which its mask, and which belong together.

A folder tells a file's part by its name (``images``, ``masks``, ``labels`` and their synonyms), or
a file does by how its stem ends (``a.png`` beside ``a_mask.png``). What is left of the path, the
part taken out, must be the same for an image and its mask::

    train/images/Early/001.jpg   -> key (train, Early, 001), an image
    train/masks/Early/001.png    -> key (train, Early, 001), its mask
"""

from __future__ import annotations

import re
from dataclasses import dataclass
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

_PARTS = {
    "image": {"images", "image", "img", "imgs", "original", "originals", "raw", "inputs", "input"},
    "mask": {
        "masks", "mask", "segmented", "segmentation", "segmentations", "gt", "ground_truth",
        "groundtruth", "annotations", "annotation", "targets", "target", "segments", "msk",
    },
    "labels": {"labels", "label", "instances", "instance"},
}  # fmt: skip
_PART_OF = {name: part for part, names in _PARTS.items() for name in names}
_MASK_END = re.compile(
    r"[ _.-]+(mask|masks|seg|segm|segmentation|label|labels|gt|annotation)$", re.I
)
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
    found = []
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        hidden = any(part.startswith((".", "__MACOSX")) for part in inside.parts)
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not hidden:
            found.append(_classify(path, inside))
    return found


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
    images, annotated = table["image"], table["mask"].keys() | table["labels"].keys()
    _check_partners(images.keys(), annotated, root)
    return [
        Pair(key, images[key], table["mask"].get(key), table["labels"].get(key))
        for key in sorted(images)
    ]


def split_of(folder: Sequence[str]) -> str:
    """``train``, ``valid`` or ``test`` where a folder of the path says so, else an empty string."""
    named = [_SPLIT_OF[name.lower()] for name in folder if name.lower() in _SPLIT_OF]
    return named[0] if named else ""


def unique_stems(keys: Sequence[Key]) -> dict[Key, str]:
    """Stem of each key: its last part, with the folders before it where that would come twice."""
    short: dict[tuple[str, str], list[Key]] = {}
    for key in keys:
        short.setdefault((split_of(key[:-1]), _plain(key[-1])), []).append(key)
    stems = {}
    for (_, stem), group in short.items():
        for key in group:
            folders = [part for part in key[:-1] if part.lower() not in _SPLIT_OF]
            stems[key] = stem if len(group) == 1 else _plain("_".join([*folders, key[-1]]))
    return stems


def _plain(name: str) -> str:
    """Keep letters, digits and a few signs, so that a name is a name on any system."""
    return re.sub(r"[^\w.+ ()-]", "_", name).strip(" .") or "_"


def _classify(path: Path, inside: Path) -> Found:
    folder, stem = list(inside.parts[:-1]), inside.stem
    for place in reversed(range(len(folder))):
        part = _PART_OF.get(folder[place].lower())
        if part is not None:
            del folder[place]
            return Found(
                path, part, tuple(folder), _MASK_END.sub("", stem) if part != "image" else stem
            )
    if _MASK_END.search(stem):
        return Found(path, "mask", tuple(folder), _MASK_END.sub("", stem))
    return Found(path, "image", tuple(folder), stem)


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
