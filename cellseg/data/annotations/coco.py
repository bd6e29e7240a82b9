"""COCO JSON: polygons, compressed and plain run lengths; categories are classes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.annotations.drawing import (
    Drawing,
    check_stated_size,
    inside_source,
    is_background,
    unlisted,
)
from cellseg.data.annotations.mask_files import default_classes, image_or_pixels
from cellseg.data.annotations.polygons import mask_from_runs, runs_from_text
from cellseg.data.form.pairs import split_of, unique_stems
from cellseg.data.form.pixels import check_upright
from cellseg.data.form.sample import Annotated, Change, Sample
from cellseg.errors import DataError
from cellseg.runtime.bundles.class_file import MaskClass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["is_coco", "read_coco"]

_WHOLE = re.compile(r"-?\d+(\.0)?")


@dataclass(frozen=True)
class _Picture:
    """One image of a COCO file with its objects."""

    file: Path
    image: Path
    objects: list[dict[str, Any]]
    width: int | None
    height: int | None


def is_coco(tree: Any) -> bool:
    """Tell a COCO file from other JSON."""
    return isinstance(tree, dict) and {"images", "annotations"} <= tree.keys()


def read_coco(trees: Mapping[Path, Any], root: Path, names: Sequence[str]) -> Annotated:
    """Read COCO files.

    Parameters
    ----------
    trees : mapping of Path to JSON
        One file or more; their categories are joined by name.
    root : Path
        The source, which holds the images.
    names : sequence of str
        Classes in order; by default the categories in order of their id.

    Raises
    ------
    DataError
        If a file is not COCO, names an image that is not there, or outlines nothing.
    """
    for path, tree in trees.items():
        _check_tree(path, tree)
    named = [name for tree in trees.values() for name in _categories(tree).values()]
    found = [name for name in named if not is_background(name)]
    order = tuple(names) or tuple(dict.fromkeys(found))
    unknown = sorted(set(found) - set(order))
    if unknown:
        raise DataError(
            f"--classes must name every category. Received: {list(order)}; COCO has {unknown}."
        )
    classes = tuple(
        MaskClass(item.value, item.name, item.color) for item in default_classes(len(order), order)
    )
    index_of = {name: index for index, name in enumerate(order, start=1)}
    pictures = [picture for path, tree in trees.items() for picture in _pictures(path, tree, root)]
    keys = [picture.image.relative_to(root).with_suffix("").parts for picture in pictures]
    stems = unique_stems(keys)
    notes = _left_out(trees) + unlisted([picture.image for picture in pictures])

    def samples() -> Iterator[Sample]:
        for picture, key in zip(pictures, keys, strict=True):
            names_of = _categories(trees[picture.file])
            indices = {number: index_of.get(name, 0) for number, name in names_of.items()}
            split = split_of(key[:-1]) or split_of(re.split(r"[_.]", picture.file.name))
            yield _sample(picture, stems[key], split, indices, root)

    return Annotated("coco", classes, len(pictures), samples, notes)


def _check_tree(path: Path, tree: dict[str, Any]) -> None:
    needed = {
        "images": ("id", "file_name"), "annotations": ("image_id", "category_id"),
        "categories": ("id", "name"),
    }  # fmt: skip
    for part, keys in needed.items():
        entries = tree.get(part, [] if not tree["annotations"] else None)
        lacking = "a list" if not isinstance(entries, list) else None
        for entry in entries if isinstance(entries, list) else ():
            known = entry if isinstance(entry, dict) else {}
            lacking = lacking or next((key for key in keys if key not in known), None)
        if lacking:
            raise DataError(
                f"A COCO file has a list {part!r} of objects with {' and '.join(keys)}. "
                f"Received: {path} without {lacking}."
            )
    counts = Counter(_id(entry["id"]) for entry in tree["images"])
    if twice := [number for number, count in counts.items() if count > 1]:
        raise DataError(
            "Each image of a COCO file has an id of its own, by which annotations name it. "
            f"Received: {path} with {twice[0]!r} more than once.",
            hint="Files that were joined have to be numbered anew; or import them one by one.",
        )


def _id(value: Any) -> int | str:
    """Numbers count as numbers, however they are written; other names as they are."""
    text = str(value)
    # int() alone would take "1_12" and "11_2", tiles by row and column, for one number.
    return int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else text


def _categories(tree: dict[str, Any]) -> dict[int | str, str]:
    named = {_id(entry["id"]): str(entry["name"]) for entry in tree.get("categories", [])}
    return dict(sorted(named.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _pictures(path: Path, tree: dict[str, Any], root: Path) -> Iterator[_Picture]:
    objects: dict[int | str, list[dict[str, Any]]] = {}
    for entry in tree["annotations"]:
        objects.setdefault(_id(entry["image_id"]), []).append(entry)
    for entry in tree["images"]:
        image = inside_source(root, path.parent, str(entry["file_name"]))
        own = objects.get(_id(entry["id"]), [])
        yield _Picture(path, image, own, entry.get("width"), entry.get("height"))


def _left_out(trees: Mapping[Path, dict[str, Any]]) -> list[str]:
    entries = [entry for tree in trees.values() for entry in tree["annotations"]]
    counts = Counter(bool(entry.get("segmentation")) for entry in entries)
    if entries and not counts[True]:
        raise DataError(
            "COCO annotations outline objects by polygons or run lengths. "
            f"Received: {counts[False]} boxes in {', '.join(path.name for path in trees)}."
        )
    crowds = sum(bool(entry.get("iscrowd")) for entry in entries)
    strays = sum(map(_strays, trees.values()))
    said = [f"{counts[False]} annotations have a box only and are left out"] * bool(counts[False])
    said += [f"{strays} annotations name no image of their file and are left out"] * bool(strays)
    return said + [f"{crowds} crowds (iscrowd) count as one object each"] * bool(crowds)


def _strays(tree: dict[str, Any]) -> int:
    """Count annotations of images that the file does not list."""
    images = {_id(entry["id"]) for entry in tree["images"]}
    return sum(_id(entry["image_id"]) not in images for entry in tree["annotations"])


def _sample(
    picture: _Picture, stem: str, split: str, indices: dict[int | str, int], root: Path
) -> Sample:
    check_upright(picture.image)
    image, pixels = image_or_pixels(picture.image)
    check_stated_size(picture.file, picture.image.name, pixels, picture.width, picture.height)
    drawing = Drawing((pixels.shape[0], pixels.shape[1]))
    for entry in picture.objects:
        _draw_checked(drawing, entry, indices, picture.image.name)
    origin = picture.image.relative_to(root).as_posix()
    drawn = sum(bool(entry.get("segmentation")) for entry in picture.objects)
    changes = (Change("{n} objects drawn", drawn), *drawing.changes())
    return Sample(stem, split, image, drawing.classes, drawing.labels, origin, changes)


def _draw_checked(
    drawing: Drawing, entry: dict[str, Any], indices: dict[int | str, int], name: str
) -> None:
    try:
        _draw(drawing, entry, indices)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            "A COCO annotation holds polygons or run lengths of its image. "
            f"Received: annotation {entry.get('id')} of {name} ({error})."
        ) from error


def _draw(drawing: Drawing, entry: dict[str, Any], indices: dict[int | str, int]) -> None:
    shape, index = entry.get("segmentation"), indices.get(_id(entry["category_id"]))
    if index is None:
        raise ValueError(f"category_id={entry['category_id']} is not among the categories")
    if not shape:
        return
    if isinstance(shape, dict):
        counts = shape["counts"]
        runs = runs_from_text(counts) if isinstance(counts, str) else counts
        height, width = drawing.classes.shape
        if tuple(shape["size"]) != (height, width):
            raise ValueError(f"size={shape['size']}, image={[height, width]}")
        drawing.add_mask(mask_from_runs(runs, (height, width)), index)
        return
    rings = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in shape]
    drawing.add_polygons([[ring] for ring in rings if len(ring) >= 3], index)
