"""LabelMe JSON: one file an image; polygons, rectangles, circles and pixel masks."""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.drawing import Drawing, inside_source
from cellseg.data.mask_files import default_classes, image_or_pixels
from cellseg.data.pairs import split_of, unique_stems
from cellseg.data.polygons import ellipse_ring
from cellseg.data.sample import Annotated, Change, Sample
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["is_labelme", "read_labelme"]

_AREAS = {"polygon", "rectangle", "circle", "mask"}


def is_labelme(tree: Any) -> bool:
    """Tell a LabelMe file from other JSON."""
    return isinstance(tree, dict) and {"shapes", "imagePath"} <= tree.keys()


def read_labelme(files: Sequence[Path], root: Path, names: Sequence[str]) -> Annotated:
    """Read LabelMe files.

    Parameters
    ----------
    files : sequence of Path
        One an image.
    root : Path
        The source, which holds the images.
    names : sequence of str
        Classes in order; by default the labels in alphabetical order.

    Raises
    ------
    DataError
        If a file names an image that is not there, or a label that ``names`` lacks.
    """
    trees = {path: json.loads(path.read_text(encoding="utf-8")) for path in files}
    shapes = [shape for tree in trees.values() for shape in tree["shapes"]]
    found = {str(shape["label"]) for shape in shapes if _kind(shape) in _AREAS}
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
    images = {
        path: inside_source(root, path.parent, str(tree["imagePath"]))
        for path, tree in trees.items()
    }
    keys = {path: image.relative_to(root).with_suffix("").parts for path, image in images.items()}
    stems = unique_stems(list(keys.values()))

    def samples() -> Iterator[Sample]:
        for path, tree in trees.items():
            key = keys[path]
            yield _sample(tree, images[path], stems[key], split_of(key[:-1]), order, root)

    return Annotated("labelme", default_classes(len(order), order), len(trees), samples, notes)


def _sample(
    tree: dict[str, Any], path: Path, stem: str, split: str, order: Sequence[str], root: Path
) -> Sample:
    image, pixels = image_or_pixels(path)
    drawing = Drawing((pixels.shape[0], pixels.shape[1]))
    for shape in tree["shapes"]:
        _draw_checked(drawing, shape, order, path.name)
    origin = path.relative_to(root).as_posix()
    changes = (Change("{n} shapes drawn", len(tree["shapes"])), *drawing.changes())
    return Sample(stem, split, image, drawing.classes, drawing.labels, origin, changes)


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
    index = list(order).index(str(shape["label"])) + 1
    points: NDArray[np.float64] = np.asarray(shape["points"], np.float64).reshape(-1, 2)
    if kind == "mask":
        drawing.add_mask(_pixel_mask(shape, points, drawing), index)
        return
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points[:2]
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    elif kind == "circle":
        points = ellipse_ring(points[0].tolist(), points[1].tolist())
    if len(points) >= 3:
        drawing.add_polygons([[points]], index)


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
