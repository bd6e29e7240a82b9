"""COCO JSON: polygons, compressed and plain run lengths; categories are classes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.drawing import Drawing, inside_source
from cellseg.data.mask_files import default_classes, image_or_pixels
from cellseg.data.pairs import split_of, unique_stems
from cellseg.data.polygons import mask_from_runs, runs_from_text
from cellseg.data.sample import Annotated, Change, Sample
from cellseg.errors import DataError
from cellseg.runtime.class_file import MaskClass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["is_coco", "read_coco"]


@dataclass(frozen=True)
class _Picture:
    """One image of a COCO file with its objects."""

    file: Path
    image: Path
    objects: list[dict[str, Any]]


def is_coco(tree: Any) -> bool:
    """Tell a COCO file from other JSON."""
    return isinstance(tree, dict) and {"images", "annotations", "categories"} <= tree.keys()


def read_coco(files: Sequence[Path], root: Path, names: Sequence[str]) -> Annotated:
    """Read COCO files.

    Parameters
    ----------
    files : sequence of Path
        One or more; their categories are joined by name.
    root : Path
        The source, which holds the images.
    names : sequence of str
        Classes in order; by default the categories in order of their id.

    Raises
    ------
    DataError
        If a file is not COCO, or names an image that is not there.
    """
    trees = {path: json.loads(path.read_text(encoding="utf-8")) for path in files}
    found = [name for tree in trees.values() for name in _categories(tree).values()]
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
    notes = _left_out(trees)

    def samples() -> Iterator[Sample]:
        for picture, key in zip(pictures, keys, strict=True):
            names_of = _categories(trees[picture.file])
            indices = {number: index_of[name] for number, name in names_of.items()}
            split = split_of(key[:-1]) or split_of([*picture.file.stem.split("_")])
            yield _sample(picture, stems[key], split, indices, root)

    return Annotated("coco", classes, len(pictures), samples, notes)


def _categories(tree: dict[str, Any]) -> dict[int, str]:
    entries = sorted(tree["categories"], key=lambda entry: int(entry["id"]))
    return {int(entry["id"]): str(entry["name"]) for entry in entries}


def _pictures(path: Path, tree: dict[str, Any], root: Path) -> Iterator[_Picture]:
    objects: dict[int, list[dict[str, Any]]] = {}
    for entry in tree["annotations"]:
        objects.setdefault(int(entry["image_id"]), []).append(entry)
    for entry in tree["images"]:
        image = inside_source(root, path.parent, str(entry["file_name"]))
        yield _Picture(path, image, objects.get(int(entry["id"]), []))


def _left_out(trees: dict[Path, dict[str, Any]]) -> list[str]:
    entries = [entry for tree in trees.values() for entry in tree["annotations"]]
    counts = Counter(bool(entry.get("segmentation")) for entry in entries)
    return [f"{counts[False]} annotations have a box only and are left out"] * bool(counts[False])


def _sample(
    picture: _Picture, stem: str, split: str, indices: dict[int, int], root: Path
) -> Sample:
    image, pixels = image_or_pixels(picture.image)
    drawing = Drawing((pixels.shape[0], pixels.shape[1]))
    for entry in picture.objects:
        _draw_checked(drawing, entry, indices, picture.image.name)
    origin = picture.image.relative_to(root).as_posix()
    changes = (Change("{n} objects drawn", len(picture.objects)), *drawing.changes())
    return Sample(stem, split, image, drawing.classes, drawing.labels, origin, changes)


def _draw_checked(
    drawing: Drawing, entry: dict[str, Any], indices: dict[int, int], name: str
) -> None:
    try:
        _draw(drawing, entry, indices)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "A COCO annotation holds polygons or run lengths of its image. "
            f"Received: annotation {entry.get('id')} of {name} ({error})."
        ) from error


def _draw(drawing: Drawing, entry: dict[str, Any], indices: dict[int, int]) -> None:
    shape, index = entry.get("segmentation"), indices[int(entry["category_id"])]
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
