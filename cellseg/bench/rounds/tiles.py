"""Tiles and pictures to measure with: from a slide where there is one, else made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.engines.trim import Sides, infer_seen

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.engines import Engine
    from cellseg.runtime.view.working import WorkingView

__all__ = ["MADE_SLIDE", "TileSet", "cells_picture", "made_slide", "open_view", "tiles_of"]

MADE_SLIDE = "made"
"""Stands for a slide that is made for the run."""

_MADE_SIDE_PX = 4096
_MADE_MPP = 0.5
_TILES_IN_MEMORY = 12
_MADE_TILES = 4
_ENDLESS = 8  # tiles of a slide so long that its ends do not matter


@dataclass(frozen=True)
class TileSet:
    """Tiles to run."""

    tiles: list[NDArray[np.uint8]]
    """RGB, all of one shape (h, w, 3); smaller than asked for where the slide is."""

    kept_px: float
    """Pixels of a result that one tile gives, halos not counted; the mean over a slide."""

    mpp: float | None
    """Microns a pixel; None if the model has no scale."""

    unseen: list[Sides]
    """What a run would not look at of each tile."""

    def run(self, engine: Engine, number: int) -> None:
        """Run one of them, as a run does; after the last comes the first."""
        which = number % len(self.tiles)
        infer_seen(engine, self.tiles[which], None, self.unseen[which])

    @property
    def tile_hw(self) -> tuple[int, int]:
        """Height and width of every tile."""
        height, width = self.tiles[0].shape[:2]
        return height, width


def cells_picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Paint dark round cells on a pale ground with noise, as in a stained section.

    Parameters
    ----------
    height, width : int
        Pixels.
    seed : int
        Same seed, same picture.

    Returns
    -------
    uint8, shape (height, width, 3)
    """
    rng = np.random.default_rng(seed)
    ground = np.array((222, 190, 214), np.int16) + rng.integers(
        -9, 10, (height, width, 1), np.int16
    )
    picture = np.broadcast_to(ground, (height, width, 3)).astype(np.uint8)
    count = max(1, height * width // 1200)
    places = zip(rng.integers(0, height, count), rng.integers(0, width, count), strict=True)
    for (cy, cx), radius in zip(places, rng.integers(5, 12, count), strict=True):
        y0, y1, x0, x1 = max(0, cy - 12), cy + 13, max(0, cx - 12), cx + 13
        part = picture[y0:y1, x0:x1]
        y, x = np.ogrid[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]]
        inside = (y - cy) ** 2 + (x - cx) ** 2 < int(radius) ** 2
        part[inside] = np.array((92, 58, 140)) + rng.integers(-20, 20)
    return picture


def made_slide(folder: Path) -> Path:
    """Write a tiled JPEG slide of cells into a folder; the same bytes each time."""
    import tifffile

    path = folder / f"made-{_MADE_SIDE_PX}.tif"
    if not path.exists():
        per_cm = 1e4 / _MADE_MPP
        picture = cells_picture(_MADE_SIDE_PX, _MADE_SIDE_PX)
        tifffile.imwrite(
            path, picture, tile=(512, 512), photometric="rgb", compression="jpeg",
            resolution=(per_cm, per_cm), resolutionunit="CENTIMETER",
        )  # fmt: skip
    return path


def open_view(slide_path: str | os.PathLike[str], bundle: Bundle) -> WorkingView:
    """Open a slide as the model sees it; the caller closes ``view.slide``."""
    from cellseg.runtime.jobs import job
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.slides.readers import open_slide
    from cellseg.runtime.view.normalize import Normalize, measure_slide

    spec = bundle.manifest.input.normalize
    slide = open_slide(slide_path)
    seen = measure_slide(slide, Normalize(spec.kind, spec.low, spec.high))
    return job.open_view(slide, bundle, InferOptions()).in_range(seen)


def tiles_of(bundle: Bundle, tile_px: int, slide: str | None, *, is_even: bool = False) -> TileSet:
    """Return tiles that lie in memory.

    Parameters
    ----------
    bundle : Bundle
        The model.
    tile_px : int
        Side of a tile.
    slide : str, optional
        Where they come from, at most 12 of them, spread over it; None: they are made.
    is_even : bool
        Make them as short as a run over the slide does, on a processor.

    Raises
    ------
    TilePlanError
        If the tile does not fit the model's halo and stride.
    """
    from cellseg.runtime.tiles.plan import plan_tiles

    card = bundle.manifest
    if slide is None:
        made = [cells_picture(tile_px, tile_px, seed) for seed in range(_MADE_TILES)]
        endless = plan_tiles((_ENDLESS * tile_px, tile_px), tile_px, card.halo_px, card.stride)
        unseen = [Sides(*(card.halo_px,) * 4)] * _MADE_TILES
        return TileSet(made, float(endless.y.core_px**2), card.mpp, unseen)
    view = open_view(slide, bundle)
    try:
        plan = plan_tiles(view.hw, tile_px, card.halo_px, card.stride, is_even=is_even)
        step = max(1, len(plan) // _TILES_IN_MEMORY)
        chosen = plan.tiles[::step][:_TILES_IN_MEMORY]
        tiles = [view.read(*tile.read_yx, *plan.tile_hw) for tile in chosen]
        unseen = [Sides.around(t.inner_yx, t.keep_hw, plan.tile_hw) for t in chosen]
        return TileSet(tiles, view.hw[0] * view.hw[1] / len(plan), card.mpp, unseen)
    finally:
        view.slide.close()
