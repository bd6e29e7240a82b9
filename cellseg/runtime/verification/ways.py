"""One window of a slide, computed in different ways: cropped, shifted, untiled, blended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.engines.trim import Output, Sides, infer_seen
from cellseg.runtime.slides.slide import paste
from cellseg.runtime.tiles.blend import BlendStitcher

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.tiles.blend import Blend
    from cellseg.runtime.tiles.plan import AxisPlan, Tile, TilePlan

__all__ = [
    "blended_plan",
    "place_window",
    "run_blended",
    "run_cropped",
    "run_untiled",
    "shifted_parts",
    "tiles_at",
    "untiled_hw",
    "window_hw",
]

WINDOW_PX = 512


Part = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # read_yx, keep_yx, keep_hw


def place_window(
    job: Job, rng: np.random.Generator, number: int, window_hw: tuple[int, int]
) -> tuple[int, int]:
    """Choose a window: the corners of the slide first, then where tiles with tissue meet."""
    limits = [extent - side for extent, side in zip(job.plan.extent_hw, window_hw, strict=True)]
    corner = {0: (limits[0], limits[1]), 1: (0, 0)}.get(number)
    if corner is not None:
        return corner
    tiles = job.todo if len(job.todo) else np.arange(len(job.plan))
    tile = job.plan.tile(int(rng.choice(tiles)))
    places = []
    for start, side, limit in zip(tile.keep_yx, window_hw, limits, strict=True):
        seam = start + int(rng.integers(-side // 4, side // 4 + 1))
        places.append(int(np.clip(seam - side // 2, 0, limit)))
    return places[0], places[1]


def tiles_at(job: Job, yx: tuple[int, int]) -> list[Tile]:
    """Return the tiles that keep a pixel of a window."""
    height, width = window_hw(job)
    return list(job.plan.tiles_in(yx[0], yx[1], yx[0] + height, yx[1] + width))


def shifted_parts(job: Job, rng: np.random.Generator, yx: tuple[int, int]) -> list[Part]:
    """Lay the plan's tiles on a grid of another phase; flush at the borders, like the plan's."""
    axes = [
        _shifted_axis(axis, int(rng.integers(0, axis.core_px // axis.stride_px)), start, side)
        for axis, start, side in zip((job.plan.y, job.plan.x), yx, window_hw(job), strict=True)
    ]
    return [
        ((read_y, read_x), (top, left), (bottom - top, right - left))
        for read_y, top, bottom in axes[0]
        for read_x, left, right in axes[1]
    ]


def _shifted_axis(
    axis: AxisPlan, strides: int, start: int, side: int
) -> list[tuple[int, int, int]]:
    """Read start, keep start and keep stop of the tiles that cover a span of one axis."""
    shift = strides * axis.stride_px
    first = (start - shift) // axis.core_px
    parts = []
    for index in range(first, (start + side - 1 - shift) // axis.core_px + 1):
        keep = shift + index * axis.core_px
        halo = -(-axis.halo_px // axis.stride_px) * axis.stride_px
        read = min(max(keep - halo, 0), axis.rounded_px - axis.read_px)
        parts.append((read, max(keep, start), min(keep + axis.core_px, start + side)))
    return parts


def run_cropped(
    job: Job, engine: Engine, yx: tuple[int, int], parts: list[Part] | None = None
) -> NDArray[np.float32]:
    """Run tiles, by default those of the plan, and put the window together."""
    if parts is None:
        parts = [(tile.read_yx, tile.keep_yx, tile.keep_hw) for tile in tiles_at(job, yx)]
    channels = len(job.bundle.manifest.channels)
    window = np.full((*window_hw(job), channels), np.nan, np.float32)
    memory = np.empty((*job.plan.tile_hw, channels), np.float32)
    for read_yx, keep_yx, keep_hw in parts:
        kept_yx = keep_yx[0] - read_yx[0], keep_yx[1] - read_yx[1]
        unseen = Sides.around(kept_yx, keep_hw, job.plan.tile_hw)
        tile = job.view.read(*read_yx, *job.plan.tile_hw)
        found, (y, x) = infer_seen(engine, tile, memory, unseen)  # as a run does
        target, source = [], []
        for first, keep, size, start, side in zip(
            (read_yx[0] + y, read_yx[1] + x), keep_yx, keep_hw, yx, window.shape[:2], strict=True
        ):
            low, high = max(keep, start), min(keep + size, start + side)
            target.append(slice(low - start, high - start))
            source.append(slice(low - first, high - first))
        window[tuple(target)] = found[tuple(source)]
    assert not np.isnan(window).any(), "every pixel of the window is kept by a tile"
    return window


def run_untiled(job: Job, engine: Engine, yx: tuple[int, int]) -> NDArray[np.float32]:
    """Run once over the window and a margin that reaches twice as far as the network does."""
    origin = [
        min(max((start - 2 * axis.halo_px) // axis.stride_px * axis.stride_px, 0), limit)
        for start, axis, limit in zip(
            yx,
            (job.plan.y, job.plan.x),
            [r - h for r, h in zip(job.plan.rounded_hw, engine.tile_hw, strict=True)],
            strict=True,
        )
    ]
    found = engine.infer(job.view.read(origin[0], origin[1], *engine.tile_hw))
    height, width = window_hw(job)
    y, x = yx[0] - origin[0], yx[1] - origin[1]
    return found[y : y + height, x : x + width]


def blended_plan(job: Job, blend: Blend) -> TilePlan:
    """Return the plan by which a run would blend tiles of the job's size."""
    return blend.plan(job.plan.extent_hw, job.plan.y.tile_px, job.plan.y.stride_px)


def run_blended(job: Job, engine: Engine, blend: Blend, yx: tuple[int, int]) -> NDArray[np.float32]:
    """Run overlapping tiles and blend them, as a run would."""
    plan = blended_plan(job, blend)
    height, width = window_hw(job)
    cells = [tile.index for tile in plan.tiles_in(*yx, yx[0] + height, yx[1] + width)]
    channels = len(job.bundle.manifest.channels)
    every = np.arange(len(plan), dtype=np.int64)
    stitcher = BlendStitcher(plan, blend, every, np.array(cells, np.int64), channels)
    window = np.full((height, width, channels), np.nan, np.float32)
    for index in stitcher.tiles:
        tile = plan.tile(int(index))
        found = engine.infer(job.view.read(*tile.read_yx, *plan.tile_hw))
        for piece in stitcher.add(tile, Output(found)):
            top, left = piece.tile.keep_yx
            paste(window, piece.kept, (top - yx[0], left - yx[1]))
    return window


def window_hw(job: Job) -> tuple[int, int]:
    """Size of a window: 512 pixels a side, or the image's if it is smaller."""
    height, width = job.plan.extent_hw
    return min(WINDOW_PX, height), min(WINDOW_PX, width)


def untiled_hw(job: Job) -> tuple[int, int]:
    """Size of the untiled run: window, twice the halo on each side, and the rounding."""
    sizes = []
    for axis, side in zip((job.plan.y, job.plan.x), window_hw(job), strict=True):
        wanted = side + 4 * axis.halo_px + 2 * axis.stride_px
        sizes.append(min(axis.rounded_px, -(-wanted // axis.stride_px) * axis.stride_px))
    return sizes[0], sizes[1]
