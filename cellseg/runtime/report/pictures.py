"""What is drawn for the page of a run: overview, heat map, close-up, galleries."""

from __future__ import annotations

import base64
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.pictures.density import DensityMap, density_map, draw_density, part_within
from cellseg.runtime.pictures.gallery import Gallery
from cellseg.runtime.pictures.overview import halvings_to_fit, read_overview
from cellseg.runtime.store.labels import read_padded
from cellseg.runtime.writers.overlay import draw_overlay

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.report.folder import RunFolder

__all__ = ["close_up", "data_uri", "fitted", "galleries", "heat_map", "overview"]

_OVERVIEW_PX = 1600
_HEAT_PX = 1024
_CLOSE_UP_PX = 512
_QUALITY = 82


def overview(folder: RunFolder) -> NDArray[np.uint8] | None:
    """Return the overlay picture, at most 1600 px wide; the slide alone if there is none."""
    found = folder.picture("overlay.jpg")
    if found is None and folder.view is not None:
        found = _slide(folder, _OVERVIEW_PX)
    return None if found is None else fitted(found, _OVERVIEW_PX)


def heat_map(folder: RunFolder) -> tuple[NDArray[np.uint8], DensityMap] | None:
    """Draw where cells are dense; None without cells, or where nobody knows where they could be."""
    cells, limits = folder.cells, folder.limits
    if cells is None or limits is None or not len(cells["id"]):
        return None
    ground = _slide(folder, _HEAT_PX)
    if ground is None:
        scale = _HEAT_PX / max(folder.l0_hw)
        shape = (max(1, round(side * scale)) for side in folder.l0_hw)
        ground = np.full((*shape, 3), 200, np.uint8)
    where = (cells["x_px"], cells["y_px"])
    looked_at = part_within(limits, folder.wl_hw, (ground.shape[0], ground.shape[1]))
    density = density_map(where, folder.l0_hw, looked_at, folder.mpp)
    return draw_density(density, ground), density


def close_up(folder: RunFolder) -> tuple[NDArray[np.uint8], float | None] | None:
    """Draw the densest place of a large slide at full resolution, with outlines; its width, µm.

    A small image shows its outlines in the overview already: None.
    """
    view, cells, classes = folder.view, folder.cells, folder.classes
    if view is None or cells is None or classes is None or not len(cells["id"]):
        return None
    if max(view.hw) <= _OVERVIEW_PX:
        return None
    y0, x0 = _densest(folder, view.l0_per_wl)
    height, width = (min(_CLOSE_UP_PX, side) for side in view.hw)
    window = (min(y0, view.hw[0] - height), min(x0, view.hw[1] - width), height, width)
    objects = None if folder.labels is None else folder.labels.read(*window)
    drawn = draw_overlay(view.read(*window), classes.read(*window), folder.palette, objects=objects)
    return drawn, None if view.mpp is None else width * view.mpp[0]


def galleries(folder: RunFolder) -> tuple[dict[str, NDArray[np.uint8]], float | None]:
    """Draw the gallery of each class that has cells, and say how wide a crop is, µm.

    There are none without slide or table.
    """
    view, cells, labels = folder.view, folder.cells, folder.labels
    if view is None or cells is None:
        return {}, None
    reader = None if labels is None else partial(read_padded, labels)
    gallery = Gallery(cells, view.l0_per_wl, view.read, reader)
    sheets = {name: gallery.sheet(name, colour) for name, colour in folder.colours.items()}
    drawn = {name: sheet for name, sheet in sheets.items() if sheet is not None}
    return drawn, None if view.mpp is None else gallery.field_px * view.mpp[0]


def data_uri(rgb: NDArray[np.uint8]) -> str:
    """Return a picture as text that a page can hold: JPEG in base64."""
    import cv2

    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def fitted(rgb: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    """Reduce a picture until its longer side is at most ``longest_px``."""
    import cv2

    scale = longest_px / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _slide(folder: RunFolder, longest_px: int) -> NDArray[np.uint8] | None:
    view = folder.view
    return None if view is None else read_overview(view, halvings_to_fit(view.hw, longest_px))


def _densest(folder: RunFolder, l0_per_wl: float) -> tuple[int, int]:
    """Top-left corner, working pixels, of the square of a grid that holds most cells."""
    cells = folder.cells
    assert cells is not None
    rows, columns = (
        (np.asarray(cells[name]) / l0_per_wl / _CLOSE_UP_PX).astype(np.int64)
        for name in ("y_px", "x_px")
    )
    across = int(columns.max()) + 1
    place = int(np.bincount(rows * across + columns).argmax())
    return place // across * _CLOSE_UP_PX, place % across * _CLOSE_UP_PX
