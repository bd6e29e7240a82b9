"""LabelMe JSON: one file an image; polygons, rectangles, circles and pixel masks."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
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
from cellseg.data.annotations.polygons import ellipse_ring
from cellseg.data.form.pairs import split_of, unique_stems
from cellseg.data.form.pixels import check_upright
from cellseg.data.form.sample import Annotated, Change, Sample
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["is_labelme", "read_labelme"]

_AREAS = {"polygon", "rectangle", "circle", "mask"}


def is_labelme(tree: Any) -> bool:
    """Tell a LabelMe file from other JSON."""
    return isinstance(tree, dict) and {"shapes", "imagePath"} <= tree.keys()


def read_labelme(trees: Mapping[Path, Any], root: Path, names: Sequence[str]) -> Annotated:
    """Read LabelMe files.

    Parameters
    ----------
    trees : mapping of Path to JSON
        A file an image. An image that is not there is taken from the file itself if it holds it.
    root : Path
        The source, which holds the images.
    names : sequence of str
        Classes in order; by default the labels in alphabetical order.

    Raises
    ------
    DataError
        If a file names an image that is not there, or a label that ``names`` lacks.
    """
    for path, tree in trees.items():
        _check_tree(path, tree)
    shapes = [shape for tree in trees.values() for shape in tree["shapes"]]
    drawn = {str(shape.get("label")) for shape in shapes if _kind(shape) in _AREAS}
    found = {name for name in drawn if not is_background(name)}
    order = tuple(names) or tuple(sorted(found))
    if found - set(order):
        raise DataError(
            f"--classes must name every label. Received: {list(order)}; "
            f"LabelMe has {sorted(found - set(order))}."
        )
    others = Counter(_kind(shape) for shape in shapes if _kind(shape) not in _AREAS)
    notes = [
        f"{count} shapes of kind {kind} have no area and are left out"
        for kind, count in others.items()
    ]
    images = {path: _image_of(path, tree, root) for path, tree in trees.items()}
    notes += unlisted([image for image in images.values() if image is not None])
    keys = {
        path: (image or path).relative_to(root).with_suffix("").parts
        for path, image in images.items()
    }
    stems = unique_stems(list(keys.values()))

    def samples() -> Iterator[Sample]:
        for path, tree in trees.items():
            key = keys[path]
            split = split_of(key[:-1])
            yield _sample(path, tree, images[path], stems[key], split, order, root)

    return Annotated("labelme", default_classes(len(order), order), len(trees), samples, notes)


def _check_tree(path: Path, tree: dict[str, Any]) -> None:
    shapes = tree["shapes"]
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(f"A LabelMe file has a list 'shapes' of objects. Received: {path}.")


def _image_of(path: Path, tree: dict[str, Any], root: Path) -> Path | None:
    """Image that a file names; None where it is not there, but in the file."""
    try:
        return inside_source(root, path.parent, str(tree["imagePath"]))
    except DataError:
        if tree.get("imageData"):
            return None
        raise


def _sample(
    file: Path,
    tree: dict[str, Any],
    path: Path | None,
    stem: str,
    split: str,
    order: Sequence[str],
    root: Path,
) -> Sample:
    if path is not None:
        check_upright(path)
    image, pixels = image_or_pixels(path) if path is not None else _embedded(file, tree)
    sizes = tree.get("imageWidth"), tree.get("imageHeight")
    check_stated_size(file, (path or file).name, pixels, *sizes)
    drawing = Drawing((pixels.shape[0], pixels.shape[1]))
    for shape in tree["shapes"]:
        _draw_checked(drawing, shape, order, file.name)
    origin = (path or file).relative_to(root).as_posix()
    drawn = sum(_kind(shape) in _AREAS for shape in tree["shapes"])
    changes = [Change("{n} shapes drawn", drawn), *drawing.changes()]
    changes += [Change("image taken from the annotation file")] * (path is None)
    return Sample(stem, split, image, drawing.classes, drawing.labels, origin, tuple(changes))


def _embedded(file: Path, tree: dict[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Image within an annotation file, RGB, twice: what is written, and its pixels."""
    import cv2

    try:
        data = np.frombuffer(base64.b64decode(tree["imageData"]), np.uint8)
    except (binascii.Error, TypeError, ValueError):
        data = np.empty(0, np.uint8)
    found = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if found is None:
        raise DataError(f"imageData of LabelMe is an image. Received: {file}, where it is not.")
    pixels = np.ascontiguousarray(found[..., ::-1])
    return pixels, pixels


def _draw_checked(drawing: Drawing, shape: dict[str, Any], order: Sequence[str], name: str) -> None:
    try:
        _draw(drawing, shape, order)
    except (KeyError, TypeError, ValueError, IndexError, binascii.Error) as error:
        raise DataError(
            f"A LabelMe shape has a label and points. Received: {shape.get('label')!r} of "
            f"{name} ({type(error).__name__}: {error})."
        ) from error


def _draw(drawing: Drawing, shape: dict[str, Any], order: Sequence[str]) -> None:
    kind = _kind(shape)
    if kind not in _AREAS:
        return
    label = str(shape["label"])
    index = 0 if is_background(label) else list(order).index(label) + 1
    points: NDArray[np.float64] = np.asarray(shape["points"], np.float64).reshape(-1, 2)
    if kind == "mask":
        drawing.add_mask(_pixel_mask(shape, points, drawing), index, _group(shape))
        return
    if kind == "rectangle" and len(points) == 2:  # some programs write all four corners
        (x0, y0), (x1, y1) = points[:2]
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    elif kind == "circle":
        points = ellipse_ring(points[0].tolist(), points[1].tolist())
    if len(points) >= 3:
        drawing.add_polygons([[points]], index, _group(shape))


def _group(shape: dict[str, Any]) -> tuple[str, str] | None:
    """LabelMe joins shapes of one label and number to one object."""
    number = shape.get("group_id")
    return None if number is None else (str(shape["label"]), str(number))


def _pixel_mask(shape: dict[str, Any], points: Any, drawing: Drawing) -> Any:
    """Mask of the whole image from a small PNG at its box's corner."""
    import cv2

    data = np.frombuffer(base64.b64decode(shape["mask"]), np.uint8)
    small = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    if small is None:
        raise ValueError("mask is no image")
    x0, y0 = np.floor(points[0]).astype(int).tolist()
    if x0 < 0 or y0 < 0:
        raise ValueError(f"mask at x={x0}, y={y0}")
    whole = np.zeros(drawing.classes.shape, bool)
    part = whole[y0 : y0 + small.shape[0], x0 : x0 + small.shape[1]]
    part[:] = small[: part.shape[0], : part.shape[1]] > 0
    return whole


def _kind(shape: dict[str, Any]) -> str:
    return str(shape.get("shape_type") or "polygon")
