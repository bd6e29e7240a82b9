"""Fields of red cells: 1000 x 1000 px of them on empty slide, positions known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellseg.data.smear.paste import Canvas, turned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cellseg.data.smear.cutouts import Cutout

__all__ = ["FIELD_PX", "Field", "Placed", "make_field"]

FIELD_PX = 1000
_DISTANCE_PX = 44
"""Nearest centres of two red cells: they may touch, as in a real smear."""
_NOISE = 1.5


@dataclass(frozen=True)
class Placed:
    """A cell in an image."""

    sample: str
    """Name of its cut-out."""
    class_index: int
    number: int
    """Its value in the instance map."""
    centre_xy: tuple[int, int]
    box: tuple[int, int, int, int]
    """Visible part: x0, y0, x1, y1, half open."""
    clipped: bool = False
    """Cut by the image's border on purpose."""


@dataclass(frozen=True, eq=False)
class Field:
    """A background."""

    rgb: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    ids: NDArray[np.uint16]
    cells: tuple[Placed, ...]
    ground: tuple[float, float, float]
    """Colour of its empty slide."""


def make_field(
    cells: Sequence[Cutout],
    rng: np.random.Generator,
    feather_px: float,
    match: bool,
    vary_ground: float = 0.0,
) -> Field:
    """Spread red cells over an empty slide.

    Parameters
    ----------
    cells : sequence of Cutout
        Each is pasted once, as far as there is room; the first one's slide is the ground.
    rng : Generator
        Places and turns.
    feather_px : float
        Softness of edges.
    match : bool
        Bring every cell to the colour of the ground.
    vary_ground : float
        Largest change of each channel of the ground's colour, +-, relative.
    """
    ground = cells[0].ground if cells else (236.0, 233.0, 235.0)
    if vary_ground > 0:  # else nothing is drawn: the bytes of a seed stay what they were
        ground = _relit(ground, rng, vary_ground)
    canvas = Canvas(
        _empty(ground, rng),
        np.zeros((FIELD_PX, FIELD_PX), np.uint8),
        np.zeros((FIELD_PX, FIELD_PX), np.uint16),
    )
    placed = []
    places = _places(len(cells), rng)
    for number, (cell, centre) in enumerate(zip(cells, places, strict=False), start=1):
        part = turned(cell, rng, feather_px, ground if match else None)
        box = canvas.paste(part, centre, cell.class_index, number)
        if box is not None:
            placed.append(Placed(cell.name, cell.class_index, number, centre, box))
    return Field(canvas.rgb, canvas.classes, canvas.ids, tuple(placed), ground)


def _relit(
    ground: tuple[float, float, float], rng: np.random.Generator, most: float
) -> tuple[float, float, float]:
    """Change the colour of the light: white, yellow, darker; every channel for itself."""
    red, green, blue = np.clip(np.array(ground) * rng.uniform(1 - most, 1 + most, 3), 1, 255)
    return float(red), float(green), float(blue)


def _empty(ground: tuple[float, float, float], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Empty slide, lit a little unevenly, with a camera's noise."""
    ramp = np.linspace(-1, 1, FIELD_PX, dtype=np.float32)
    across, down = rng.uniform(-0.03, 0.03, 2)
    light = 1 + np.float32(across) * ramp[None, :] + np.float32(down) * ramp[:, None]
    noise = rng.standard_normal((FIELD_PX, FIELD_PX), dtype=np.float32) * np.float32(_NOISE)
    plane = light[..., None] * np.array(ground, np.float32) + noise[..., None]
    return np.asarray(np.clip(plane, 0, 255), np.uint8)


def _places(count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Random centres that keep their distance; fewer than asked for where there is no room."""
    tries = rng.integers(0, FIELD_PX, (6 * count, 2))
    chosen = np.empty((count, 2), np.int64)
    found = 0
    for place in tries:
        if found == count:
            break
        gaps = np.abs(chosen[:found] - place).max(1, initial=0) if found else np.empty(0)
        near = gaps < _DISTANCE_PX
        distances = np.hypot(*(chosen[:found][near] - place).T) if near.any() else np.array([1e9])
        if distances.min() >= _DISTANCE_PX:
            chosen[found] = place
            found += 1
    return [(int(x), int(y)) for x, y in chosen[:found]]
