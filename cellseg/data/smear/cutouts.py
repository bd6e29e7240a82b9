"""Cells cut out of real images, each with its mask, brought to one scale.

White cells come from images with masks of one cell each, red cells from around annotated points by
thresholding, platelets as small purple specks of the same fields; or all of them from folders of
``<class>/NAME.png`` with ``NAME_mask.png``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.form.dataset import open_dataset
from cellseg.data.form.pixels import read_image, read_mask
from cellseg.data.smear.classes import CLASSES, HEALTHY, index_of
from cellseg.data.splits.leaks import find_leaks, join_groups
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "RED_CELL_PX",
    "Cutout",
    "cut_from_folders",
    "cut_red_cells",
    "cut_white_cells",
]

RED_CELL_PX = 50.0
"""Diameter of a red cell at the seed's scale (40x)."""
WHITE_SCALE = 1.05
"""From the white-cell images' 77 px a neutrophil to the seed's 79."""
_MARGIN_PX = 3
_MIN_AREA_PX = 150
_PLATELET_DIAMETER = (0.15, 0.5)
"""Of a red cell's."""

Window = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Cutout:
    """One cell."""

    name: str
    """For the record of each image."""
    group: str
    """Image or field it was cut from: cells of one group go to one split."""
    class_index: int
    rgb: NDArray[np.uint8]
    """Shape (h, w, 3), with a margin of its surroundings."""
    mask: NDArray[np.uint8]
    """1 inside the cell, shape (h, w)."""
    ground: tuple[float, float, float]
    """Colour of the empty slide around it."""


def cut_white_cells(root: Path, types: Path | None = None) -> list[Cutout]:
    """Cut white cells out of images that show one each.

    Parameters
    ----------
    root : Path
        Data set with masks; every class above the background belongs to the cell.
    types : Path, optional
        CSV with ``stem`` and ``cell_type``; by default ``cell_types.csv`` in ``root``.

    Raises
    ------
    DataError
        If the table is missing or names an unknown type.
    """
    table = types or root / "cell_types.csv"
    try:
        with table.open(newline="", encoding="utf-8") as file:
            kinds = {row["stem"]: index_of(row["cell_type"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, StopIteration) as error:
        raise DataError(
            "White cells need a table of stem and cell_type, of types "
            f"{', '.join(item.name for item in CLASSES[1:6])}. Received: {table}."
        ) from error
    found = []
    dataset = open_dataset(root)
    items = [item for item in dataset.items if item.stem in kinds]
    # Photographs of one cell are one group: a class may have few cells, and a copy tests nothing.
    groups = join_groups([item.stem for item in items], find_leaks(items))
    for item, group in zip(items, groups, strict=True):
        rgb, inside = item.read_rgb(), (dataset.read_classes(item) > 0).astype(np.uint8)
        piece = _largest_piece(inside)
        ground = _ground(rgb[inside == 0])
        origin = (item.stem, group, kinds[item.stem])
        found += _cut(origin, *_cropped(rgb, piece), WHITE_SCALE, ground)
    return found


def cut_red_cells(root: Path) -> tuple[list[Cutout], list[Cutout]]:
    """Cut red cells, and platelets, out of fields with annotated points.

    Parameters
    ----------
    root : Path
        Holds ``[split/]images/`` and ``[split/]points/NAME.csv`` with ``x`` and ``y``.

    Returns
    -------
    list of Cutout, list of Cutout
        Red cells and platelets. A cell is the piece of the thresholded field that holds its point;
        pieces that touch others (over 1.5 times the median area) or the border are left out.

    Raises
    ------
    DataError
        If there are no points.
    """
    tables = sorted(root.rglob("points/*.csv"))
    if not tables:
        raise DataError(f"Red cells are cut out around points/*.csv. Received: none in {root}.")
    red: list[Cutout] = []
    platelets: list[Cutout] = []
    for table in tables:
        images = sorted((table.parent.parent / "images").glob(f"{table.stem}.*"))
        if images:
            cells, specks = _cut_field(table, images[0])
            red += cells
            platelets += specks
    return red, platelets


def cut_from_folders(root: Path) -> list[Cutout]:
    """Read cut-outs that somebody made: ``<class>/NAME.png`` and ``<class>/NAME_mask.png``.

    They are taken to be at the scale of the synthesis, red cells 50 px across.

    Raises
    ------
    DataError
        If a folder is no class, or an image has no mask.
    """
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        try:
            index = index_of(folder.name)
        except StopIteration:
            names = ", ".join(item.name for item in CLASSES[1:])
            raise DataError(
                f"Folders of cut-outs are named after a class: {names}. Received: {folder.name!r}."
            ) from None
        for path in sorted(folder.iterdir()):
            if path.stem.endswith("_mask") or not path.is_file():
                continue
            mask_path = path.with_name(f"{path.stem}_mask{path.suffix}")
            if not mask_path.is_file():
                raise DataError(f"A cut-out has a mask. Received: no {mask_path.name} for {path}.")
            mask = read_mask(mask_path)
            grey = mask.max(-1) if mask.ndim == 3 else mask
            inside = (grey > grey.max() // 2).astype(np.uint8)
            rgb = read_image(path)
            ground = _ground(rgb[inside == 0])
            found += _cut((path.stem, path.stem, index), *_cropped(rgb, inside), 1.0, ground)
    return found


def _cut_field(table: Path, image: Path) -> tuple[list[Cutout], list[Cutout]]:
    import cv2

    rgb = read_image(image)
    dark = _dark(rgb)
    count, pieces, facts, _ = cv2.connectedComponentsWithStats(dark)
    with table.open(newline="", encoding="utf-8") as file:
        points = [(int(row["x"]), int(row["y"])) for row in csv.DictReader(file)]
    height, width = dark.shape
    inside = [(x, y) for x, y in points if 0 <= x < width and 0 <= y < height]
    ids = sorted({int(pieces[y, x]) for x, y in inside} - {0})
    ids = [
        i
        for i in ids
        if facts[i, cv2.CC_STAT_AREA] >= _MIN_AREA_PX and not _cut_off(facts[i], dark)
    ]
    if count < 2 or not ids:
        return [], []
    median = float(np.median([facts[i, cv2.CC_STAT_AREA] for i in ids]))
    single = [i for i in ids if 0.5 * median < facts[i, cv2.CC_STAT_AREA] < 1.5 * median]
    scale = RED_CELL_PX / (2 * np.sqrt(median / np.pi))
    field = _Field(image.stem, rgb, dark, scale, _ground(rgb[dark == 0]))
    red = []
    for i in single:
        window = _window(facts[i], dark.shape)
        origin = (f"{image.stem}_{i}", image.stem, HEALTHY)
        red += _cut(origin, rgb[window], _filled(pieces[window] == i), scale, field.ground)
    return red, list(_platelets(field, 2 * np.sqrt(median / np.pi)))


@dataclass(frozen=True)
class _Field:
    """One field of red cells."""

    stem: str
    rgb: NDArray[np.uint8]
    dark: NDArray[np.uint8]
    scale: float
    ground: tuple[float, float, float]


def _dark(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cells by Otsu's threshold of the green channel, where haemoglobin absorbs most."""
    import cv2

    green = cv2.GaussianBlur(np.ascontiguousarray(rgb[..., 1]), (5, 5), 0)
    # Light falls off towards the corners: a cell is darker than its own surroundings.
    ground = cv2.GaussianBlur(cv2.dilate(green, np.ones((51, 51), np.uint8)), (0, 0), 25)
    level = cv2.subtract(ground, green)
    _, dark = cv2.threshold(level, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    dark = _filled(dark > 0)
    return np.asarray(cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))


def _platelets(field: _Field, red_px: float) -> Iterator[Cutout]:
    """Small specks, more purple than the red cells: green absorbs, blue does not."""
    import cv2

    lost = np.array(field.ground) - cv2.GaussianBlur(field.rgb, (3, 3), 0)
    purple = ((lost[..., 1] > 45) & (lost[..., 1] - lost[..., 2] > 35)).astype(np.uint8)
    purple = cv2.morphologyEx(purple, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    count, pieces, facts, _ = cv2.connectedComponentsWithStats(purple)
    low, high = (share * red_px for share in _PLATELET_DIAMETER)
    for i in range(1, count):
        diameter = 2 * np.sqrt(facts[i, cv2.CC_STAT_AREA] / np.pi)
        if not low < diameter < high or _cut_off(facts[i], purple):
            continue
        window = _window(facts[i], purple.shape)
        inside = (pieces[window] == i).astype(np.uint8)
        near = cv2.dilate(inside, np.ones((5, 5), np.uint8)) > 0
        # One that lies on a red cell would bring a piece of it along.
        if field.dark[window][~near].mean() < 0.15:
            origin = (f"{field.stem}_p{i}", field.stem, index_of("thrombocyte"))
            yield from _cut(origin, field.rgb[window], inside, field.scale, field.ground)


def _cropped(
    rgb: NDArray[np.uint8], inside: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Crop an image and a mask to the mask and a margin."""
    if not inside.any():
        return rgb, inside
    y, x = np.nonzero(inside)
    facts = np.array([x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1])
    window = _window(facts, inside.shape)
    return rgb[window], inside[window]


def _cut(
    origin: tuple[str, str, int],
    rgb: NDArray[np.uint8],
    inside: NDArray[np.uint8],
    scale: float,
    ground: tuple[float, float, float],
) -> list[Cutout]:
    """Bring a cell to scale; nothing where the mask is empty. ``origin``: name, group, class."""
    import cv2

    if not inside.any():
        return []
    part, mask = np.ascontiguousarray(rgb), inside.astype(np.float32)
    size = (max(3, round(mask.shape[1] * scale)), max(3, round(mask.shape[0] * scale)))
    part = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    # A smooth outline at the new scale, then one class or the other: never a blend.
    hard = (cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR) >= 0.5).astype(np.uint8)
    return [Cutout(*origin, np.asarray(part, np.uint8), hard, ground)]


def _ground(outside: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Colour of the empty slide: the bright end of what lies outside the cells."""
    values = np.percentile(outside[::5], 80, axis=0) if len(outside) else np.full(3, 230.0)
    return float(values[0]), float(values[1]), float(values[2])


def _window(facts: NDArray[Any], hw: tuple[int, ...]) -> Window:
    x0, y0, w, h = (int(v) for v in facts[:4])
    m = _MARGIN_PX
    return (
        slice(max(0, y0 - m), min(hw[0], y0 + h + m)),
        slice(max(0, x0 - m), min(hw[1], x0 + w + m)),
    )


def _cut_off(facts: NDArray[Any], dark: NDArray[np.uint8]) -> bool:
    x0, y0, w, h = (int(v) for v in facts[:4])
    return x0 <= 0 or y0 <= 0 or x0 + w >= dark.shape[1] or y0 + h >= dark.shape[0]


def _filled(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fill holes: the pale centre of a red cell is part of it."""
    import cv2

    outlines, _ = cv2.findContours(
        inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    return np.asarray(cv2.drawContours(np.zeros(inside.shape, np.uint8), outlines, -1, 1, -1))


def _largest_piece(inside: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    count, pieces, facts, _ = cv2.connectedComponentsWithStats(inside)
    if count < 3:
        return inside
    return np.asarray(pieces == 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax()), np.uint8)
