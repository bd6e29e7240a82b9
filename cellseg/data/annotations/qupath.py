"""QuPath annotations on a slide, exported as tiles at a chosen pixel size.

The slide is read through the runtime's readers, resampled as inference resamples it. A tile is
exported where something was annotated: elsewhere nobody has looked, and calling it background would
teach that cells are background. Annotations of a class named as a region (``Region``, ``ROI``)
are no objects but say where everything was annotated; where there are any, their tiles are exported
and no others.
"""

from __future__ import annotations

import glob
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.annotations.drawing import Drawing, is_background
from cellseg.data.annotations.mask_files import default_classes
from cellseg.data.form.grid import tile_origins
from cellseg.data.form.pairs import unique_stems
from cellseg.data.form.sample import Annotated, Change, Sample
from cellseg.errors import DataError
from cellseg.runtime.bundles.class_file import MaskClass
from cellseg.runtime.shapes.geojson import class_name, parse_regions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.view.working import WorkingView

__all__ = ["QuPathOptions", "is_geojson", "read_qupath"]

_REGIONS = {"region", "region*", "roi", "tissue region"}
_SLIDE_SUFFIXES = (
    ".svs", ".tif", ".tiff", ".ome.tif", ".ome.tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".dcm",
    ".png", ".jpg", ".jpeg", ".bmp",
)  # fmt: skip


_MOST_NAMES = 10


@dataclass(frozen=True)
class QuPathOptions:
    """How a slide becomes tiles."""

    slide: Path | None = None
    """The slide; by default the file beside the annotations with the same name."""
    tile_px: int = 512
    """Side of a tile at the chosen pixel size."""
    overlap_px: int = 0
    """Pixels that neighbouring tiles share."""
    mpp: float | None = None
    """Microns per pixel of the tiles; None: those of the slide."""


@dataclass(frozen=True, eq=False)
class _Drawn:
    """One annotation."""

    name: str
    color: tuple[int, int, int] | None
    polygons: tuple[tuple[NDArray[np.float64], ...], ...]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Least and largest x and y."""
        points = np.concatenate([polygon[0] for polygon in self.polygons])
        return (*points.min(0).tolist(), *points.max(0).tolist())


def is_geojson(tree: Any) -> bool:
    """Tell GeoJSON from other JSON."""
    features = tree if isinstance(tree, list) else [tree]
    kinds = {"FeatureCollection", "Feature"}
    return bool(features) and isinstance(features[0], dict) and features[0].get("type") in kinds


def read_qupath(
    trees: Mapping[Path, Any], root: Path, names: Sequence[str], options: QuPathOptions
) -> Annotated:
    """Read annotations and cut their slides into tiles.

    Parameters
    ----------
    trees : mapping of Path to JSON
        GeoJSON files, each with its slide.
    root : Path
        The source.
    names : sequence of str
        Classes in order; by default those of the annotations in alphabetical order.
    options : QuPathOptions
        Slide, tile, pixel size.

    Raises
    ------
    DataError
        If a slide is missing, or a class is not among ``names``.
    SlideError
        If a slide cannot be read or does not know its pixel size.
    """
    if not 0 <= options.overlap_px < options.tile_px:
        raise DataError(
            "Tiles overlap by less than their side. "
            f"Received: tile={options.tile_px}, overlap={options.overlap_px}."
        )
    if options.mpp is not None and not 0 < options.mpp < math.inf:
        raise DataError(f"The pixel size of tiles is above 0 µm. Received: --mpp {options.mpp:g}.")
    notes: list[str] = []
    read = ((path, _read_drawn(path, tree, notes)) for path, tree in trees.items())
    drawn = {path: items for path, items in read if items}
    if not drawn:
        raise DataError(
            f"Annotations are polygons. Received: none in {', '.join(map(str, trees))}."
        )
    files = list(drawn)
    slides = {path: _slide_of(path, options.slide, root) for path in files}
    everything = [item for items in drawn.values() for item in items if not _is_region(item)]
    found = sorted({item.name for item in everything if not is_background(item.name)})
    order = tuple(names) or tuple(found)
    if set(found) - set(order):
        raise DataError(
            f"--classes must name every class. Received: {list(order)}; the annotations have "
            f"{sorted(set(found) - set(order))}."
        )
    colors = {item.name: item.color for item in everything if item.color is not None}
    classes = tuple(
        MaskClass(item.value, item.name, colors.get(item.name, item.color))
        for item in default_classes(len(order), order)
    )
    work = [
        (path, tile) for path in files for tile in _tiles(path, slides[path], drawn[path], options)
    ]

    keys = {path: _key(slide) for path, slide in slides.items()}
    stems = unique_stems(list(dict.fromkeys(keys.values())))

    def samples() -> Iterator[Sample]:
        for path in files:
            tiles = [tile for owner, tile in work if owner == path]
            yield from _samples(slides[path], stems[keys[path]], drawn[path], tiles, order, options)

    notes.insert(0, f"{len(work)} tiles of {options.tile_px} px hold annotations")
    empty = sorted(path.name for path in trees.keys() - drawn.keys())
    notes += [f"no polygon in {name}" for name in empty]
    return Annotated("qupath", classes, len(work), samples, notes)


def _key(slide: Path) -> tuple[str, ...]:
    """Return a slide's folders and name, without what comes of its form."""
    return (*slide.parts[:-1], re.sub(r"\.ome$", "", slide.stem, flags=re.IGNORECASE))


def _samples(
    slide_path: Path,
    stem: str,
    drawn: Sequence[_Drawn],
    tiles: Sequence[tuple[int, int]],
    order: Sequence[str],
    options: QuPathOptions,
) -> Iterator[Sample]:
    from cellseg.runtime.slides.readers import open_slide

    slide = open_slide(slide_path)
    try:
        view = _view(slide, options)
        objects = [item for item in drawn if not _is_region(item)]
        boxes = np.array([item.box for item in objects]).reshape(-1, 4) / view.l0_per_wl
        for y0, x0 in tiles:
            place = (y0, x0)
            yield _tile_sample(
                view, slide_path, stem, objects, boxes, place, order, options.tile_px
            )
    finally:
        slide.close()


def _tile_sample(
    view: WorkingView,
    path: Path,
    stem: str,
    objects: Sequence[_Drawn],
    boxes: NDArray[np.float64],
    yx: tuple[int, int],
    order: Sequence[str],
    side: int,
) -> Sample:
    y0, x0 = yx
    height, width = min(side, view.hw[0] - y0), min(side, view.hw[1] - x0)
    drawing = Drawing((height, width))
    left, top, right, bottom = boxes.T
    meets = (left < x0 + width) & (right > x0) & (top < y0 + height) & (bottom > y0)
    for index in np.flatnonzero(meets).tolist():
        rings = [
            [ring / view.l0_per_wl - (x0, y0) for ring in polygon]
            for polygon in objects[index].polygons
        ]
        name = objects[index].name
        drawing.add_polygons(rings, 0 if is_background(name) else list(order).index(name) + 1)
    mpp = "its own pixels" if view.mpp is None else f"{view.mpp[0]:.4g} µm per pixel"
    changes = (Change(f"tile cut at {mpp}"), *drawing.changes())
    origin = f"{path.name} x={x0} y={y0}"
    pixels = view.read(y0, x0, height, width)
    return Sample(
        f"{stem}_x{x0}_y{y0}",
        "",
        pixels,
        drawing.classes,
        drawing.labels,
        origin,
        changes,
        parent=stem,
    )


def _tiles(
    path: Path, slide_path: Path, drawn: Sequence[_Drawn], options: QuPathOptions
) -> list[tuple[int, int]]:
    """Corners of the tiles that hold something annotated, row by row."""
    from cellseg.runtime.slides.readers import open_slide

    slide = open_slide(slide_path)
    try:
        view = _view(slide, options)
        regions = [item for item in drawn if _is_region(item)]
        chosen = regions or [item for item in drawn if not _is_region(item)]
        boxes = np.array([item.box for item in chosen]).reshape(-1, 4) / view.l0_per_wl
    finally:
        slide.close()
    height, width = view.hw
    inside = (boxes[:, 0] < width) & (boxes[:, 1] < height) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    if not inside.all():
        raise DataError(
            f"Annotations lie on their slide of {width} x {height} px. Received: {path} with "
            f"{int(np.count_nonzero(~inside))} outside {slide_path.name}.",
            hint="Was the file drawn on another slide?",
        )
    step, side = options.tile_px - options.overlap_px, options.tile_px
    return [
        (y0, x0)
        for y0 in tile_origins(height, side, step)
        for x0 in tile_origins(width, side, step)
        if ((boxes[:, 0] < x0 + side) & (boxes[:, 2] > x0)
            & (boxes[:, 1] < y0 + side) & (boxes[:, 3] > y0)).any()
    ]  # fmt: skip


def _view(slide: Any, options: QuPathOptions) -> WorkingView:
    from cellseg.runtime.view.working import WorkingView

    if options.mpp is not None and slide.mpp is None:
        raise DataError(
            f"A pixel size of tiles needs that of the slide. Received: --mpp {options.mpp:g} for "
            f"{slide.path}, which states none.",
            hint="Leave --mpp out: tiles then have the slide's own pixels.",
        )
    return WorkingView(slide, options.mpp)


def _read_drawn(path: Path, tree: Any, notes: list[str]) -> list[_Drawn]:
    """Return what a file holds; note what of it is left out or was mended."""
    features = tree["features"] if isinstance(tree, dict) and "features" in tree else tree
    features = features if isinstance(features, list) else [features]
    if not all(isinstance(feature, dict) for feature in features):
        raise DataError(f"The features of GeoJSON are objects. Received: {path}.")
    found: list[tuple[dict[str, Any], Any]] = []
    no_area = 0
    for feature in features:
        geometry = feature.get("geometry") or {}
        if geometry.get("type") in ("Polygon", "MultiPolygon", "GeometryCollection"):
            regions = parse_regions(geometry, str(path))
            polygons = tuple(rings for region in regions for rings in region.polygons)
            properties = feature.get("properties")
            found.append((properties if isinstance(properties, dict) else {}, polygons))
            notes += [f"{path.name}: a polygon {text}" for r in regions for text in r.doubts]
        else:
            no_area += 1
    if no_area:
        notes.append(f"{path.name}: {no_area} points or lines have no inside and are left out")
    by_name = _are_named_by_class([properties for properties, _ in found])
    return [_Drawn(*_class_of(properties, by_name), shape) for properties, shape in found]


def _are_named_by_class(objects: Sequence[dict[str, Any]]) -> bool:
    """Tell whether objects without any classification carry their class as their name.

    Names that count (``Annotation 3``), or that nearly every object has for itself, are no classes.
    """
    names = {str(entry["name"]) for entry in objects if entry.get("name")}
    counted = any(re.search(r"(^|[ _-])\d+$", name) for name in names)
    classified = any(entry.get("classification") for entry in objects)
    return not classified and not counted and len(names) <= _MOST_NAMES


def _class_of(properties: dict[str, Any], by_name: bool) -> tuple[str, tuple[int, int, int] | None]:
    """Class and colour of a QuPath object; one without a class is a cell."""
    found = properties.get("classification")
    found = found if isinstance(found, dict) else {}
    color = found.get("color") or properties.get("color")
    if isinstance(found.get("colorRGB"), int):  # older versions: a signed 32-bit number
        packed = found["colorRGB"]
        color = [packed >> 16 & 255, packed >> 8 & 255, packed & 255]
    name = str(class_name(properties) or (by_name and properties.get("name")) or "cell")
    if not isinstance(color, list) or [isinstance(v, int | float) for v in color] != [True] * 3:
        return name, None
    red, green, blue = (int(value) for value in color)
    return name, (red, green, blue)


def _is_region(item: _Drawn) -> bool:
    return item.name.lower() in _REGIONS


def _slide_of(path: Path, given: Path | None, root: Path) -> Path:
    if given is not None:
        return given
    stem = path.name.removesuffix(".gz").removesuffix(".geojson").removesuffix(".json")
    for folder in (path.parent, path.parent / "images", path.parent.parent):
        if (folder / stem).is_file() and Path(stem).suffix:
            return folder / stem
        for suffix in _SLIDE_SUFFIXES:
            if (folder / f"{stem}{suffix}").is_file():
                return folder / f"{stem}{suffix}"
    names = {stem, *(f"{stem}{suffix}" for suffix in _SLIDE_SUFFIXES)}
    elsewhere = [found for found in root.rglob(f"{glob.escape(stem)}*") if found.name in names]
    slides = [found for found in elsewhere if found.is_file() and found.suffix]
    if len(slides) == 1:
        return slides[0]
    raise DataError(
        f"Annotations lie beside their slide under the same name. Received: no slide for {path}.",
        hint="Name it with --slide FILE.",
    )
