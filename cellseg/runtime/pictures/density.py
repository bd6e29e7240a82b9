"""How many cells there are where: cells per mm² all over a slide, as a map and as a picture.

Each cell counts at its centroid and is spread by a Gaussian. Where that reaches beyond the slide,
or beyond what of it was looked at, the rest counts for more, so that borders are no thinner than
the middle; where nobody looked the density is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.pictures.marks import draw_scale_bar, draw_text, nice_number, number_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.shapes.limit import Limit

__all__ = [
    "DensityMap",
    "density_colours",
    "density_map",
    "draw_density",
    "framed_density",
    "part_within",
]

_SIGMA_UM = 30.0
_SIGMA_PX = 60.0  # level-0 pixels, where the slide does not state their size
_LEAST_SHARE, _MOST_SHARE = 0.01, 0.1  # of the longer side that sigma may be
_REACH = 4.0  # sigmas that the Gaussian is computed for
_STEPS = 256
_POINTS_PER_PX = 4  # along either side
_BAND_PX = 128
_OPAQUE_FROM, _OPACITY = 0.15, 0.8
_BAR_PX, _MARGIN_PX = 22, 16
_INK, _PAPER = (30, 30, 30), 255


@dataclass(frozen=True)
class DensityMap:
    """Cells by area, on a grid that covers the slide."""

    values: NDArray[np.float32]
    """Density at each pixel of the map, shape (h, w)."""
    unit: str
    """``cells/mm²``, or ``cells/Mpx`` (level 0) where the slide does not state its pixel size."""
    sigma_px: float
    """Standard deviation of the Gaussian, pixels of the map."""
    px_um: float | None
    """Width of a pixel of the map, µm; None if it is not known."""

    @property
    def top(self) -> float:
        """A round number that no value is above: the end of the colour bar."""
        return nice_number(float(self.values.max(initial=0.0)))


def density_map(
    xy_px: tuple[NDArray[Any], NDArray[Any]],
    l0_hw: tuple[int, int],
    looked_at: NDArray[np.float32],
    mpp: tuple[float, float] | None,
) -> DensityMap:
    """Count cells by area.

    Parameters
    ----------
    xy_px : pair of float arrays, shape (n,)
        Centroids in level-0 pixels, corners of pixels at whole numbers.
    l0_hw : (int, int)
        Size of the slide.
    looked_at : float32, shape (h, w)
        Which part of each pixel of the map, which covers the slide, was looked at: 0 to 1.
    mpp : (float, float) or None
        Microns per level-0 pixel, (x, y).

    Returns
    -------
    DensityMap
        Its mean over what was looked at is the number of cells by that area, but for what the
        correction at the border changes.
    """
    import cv2

    shape_hw = (looked_at.shape[0], looked_at.shape[1])
    counts = _counts(xy_px, l0_hw, shape_hw)
    per_map_px = (l0_hw[1] / shape_hw[1], l0_hw[0] / shape_hw[0])
    x_um, y_um = mpp or (1.0, 1.0)
    sigma = _sigma_px(max(shape_hw), per_map_px[0], None if mpp is None else x_um)
    side = 2 * round(_REACH * sigma) + 1
    cells, share = (
        cv2.GaussianBlur(each, (side, side), sigma, borderType=cv2.BORDER_CONSTANT)
        for each in (counts, looked_at)
    )
    area = per_map_px[0] * x_um * per_map_px[1] * y_um * 1e-6  # mm², or million pixels
    return DensityMap(
        values=np.divide(
            cells, share * np.float32(area), out=np.zeros_like(cells), where=looked_at > 0
        ),
        unit="cells/Mpx" if mpp is None else "cells/mm²",
        sigma_px=sigma,
        px_um=None if mpp is None else per_map_px[0] * x_um,
    )


def part_within(
    limits: Sequence[Limit], wl_hw: tuple[int, int], shape_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Return which part of each pixel of a map of the slide lies within all limits.

    Parameters
    ----------
    limits : sequence of Limit
        Masks, regions; none: all of it does.
    wl_hw : (int, int)
        Size of the working level.
    shape_hw : (int, int)
        Size of the map.

    Returns
    -------
    float32, shape (h, w)
        0 to 1, in steps of a sixteenth.
    """
    found = np.ones(shape_hw, np.float32)
    if not limits:
        return found
    ys, xs = (
        (np.arange(count * _POINTS_PER_PX, dtype=np.float64) + 0.5)
        * (extent / (count * _POINTS_PER_PX))
        for extent, count in zip(wl_hw, shape_hw, strict=True)
    )
    for top in range(0, shape_hw[0], _BAND_PX):
        band = found[top : top + _BAND_PX]
        rows = ys[top * _POINTS_PER_PX :][: len(band) * _POINTS_PER_PX]
        points = np.logical_and.reduce([limit.at(rows, xs) for limit in limits])
        fine = (len(band), _POINTS_PER_PX, shape_hw[1], _POINTS_PER_PX)
        band[:] = points.reshape(fine).mean((1, 3))
    return found


def density_colours() -> NDArray[np.uint8]:
    """Colours from nothing to the top of the bar, RGB uint8 (256, 3)."""
    import cv2

    ramp = np.arange(_STEPS, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO)[:, 0, ::-1])


def draw_density(density: DensityMap, overview: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay a density map over a picture of the slide in grey.

    Parameters
    ----------
    density : DensityMap
    overview : uint8, shape (h, w, 3)
        The slide, of the map's size.

    Returns
    -------
    uint8, shape (h, w, 3)
        Where there are hardly any cells, the slide shows.
    """
    import cv2

    grey = cv2.cvtColor(overview, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # Colours must be told apart on it: a faint slide between middle and light grey.
    ground = np.repeat((96 + grey * (140 / 255))[..., None], 3, axis=2)
    share = np.clip(density.values / (density.top or 1.0), 0, 1)
    colours = density_colours()[np.minimum(share * _STEPS, _STEPS - 1).astype(np.uint8)]
    weight = (np.clip(share / _OPAQUE_FROM, 0, 1) * _OPACITY)[..., None]
    return np.asarray(ground * (1 - weight) + colours * weight + 0.5, np.uint8)


def framed_density(density: DensityMap, overview: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw a density map with its colour bar and a scale bar beside it, RGB."""
    picture = draw_density(density, overview)
    height, width = picture.shape[:2]
    bar_height = max(120, min(height, 420))
    beside = 2 * _MARGIN_PX + _BAR_PX + 110
    page = np.full(
        (max(height, bar_height + 60) + 2 * _MARGIN_PX, width + _MARGIN_PX + beside, 3),
        _PAPER,
        np.uint8,
    )
    page[_MARGIN_PX : _MARGIN_PX + height, _MARGIN_PX : _MARGIN_PX + width] = picture
    _draw_bar(page, density, (_MARGIN_PX + 30, 2 * _MARGIN_PX + width), bar_height)
    draw_text(page, density.unit.replace("²", "2"), (2 * _MARGIN_PX + width, _MARGIN_PX + 14), _INK)
    if density.px_um is not None:
        left = 2 * _MARGIN_PX + width
        draw_scale_bar(page, density.px_um, (left, _MARGIN_PX + bar_height + 60), 100, _INK)
    return page


def _draw_bar(
    page: NDArray[np.uint8], density: DensityMap, yx: tuple[int, int], height: int
) -> None:
    top, left = yx
    steps = np.linspace(_STEPS - 1, 0, height).astype(np.uint8)
    page[top : top + height, left : left + _BAR_PX] = density_colours()[steps][:, None]
    for index in range(5):
        y = top + round(index * (height - 1) / 4)
        value = density.top * (4 - index) / 4
        page[y, left + _BAR_PX : left + _BAR_PX + 5] = _INK
        draw_text(page, number_text(value), (left + _BAR_PX + 10, y + 5), _INK)


def _counts(
    xy_px: tuple[NDArray[Any], NDArray[Any]], l0_hw: tuple[int, int], shape_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Cells in each pixel of the map."""
    columns, rows = (
        np.clip(np.asarray(at, np.float64) * (count / extent), 0, count - 1).astype(np.int64)
        for at, count, extent in zip(xy_px, shape_hw[::-1], l0_hw[::-1], strict=True)
    )
    flat = np.bincount(rows * shape_hw[1] + columns, minlength=shape_hw[0] * shape_hw[1])
    return flat.reshape(shape_hw).astype(np.float32)


def _sigma_px(longest_px: int, l0_per_px: float, x_um: float | None) -> float:
    """Spread of a cell on the map: a fixed length, but neither a dot nor a blur of it all."""
    wanted = _SIGMA_PX / l0_per_px if x_um is None else _SIGMA_UM / (l0_per_px * x_um)
    return float(
        min(max(wanted, _LEAST_SHARE * longest_px, 1.0), max(1.0, _MOST_SHARE * longest_px))
    )
