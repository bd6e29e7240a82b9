"""Is a tiled result what the whole image would have given? Random windows, computed three ways.

::

    tiled     the windows of the plan that `infer` uses, stitched
    shifted   the same tiles on a grid moved by a random multiple of the stride, stitched
    untiled   one run over the window with twice the halo around it

Windows lie where tiles meet, and at the slide's borders. With an exact halo and a true grid the
three agree but for the last bits of float32: an engine may add in another order for another shape.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellseg.errors import TilePlanError
from cellseg.runtime.bundle import Bundle
from cellseg.runtime.job import choose_tile_px, open_engine_for, opened_slide, prepare
from cellseg.runtime.options import InferOptions

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.job import Job, OpenEngine
    from cellseg.runtime.slide import Slide

__all__ = ["VerifyReport", "WindowCheck", "verify"]

Way = Literal["untiled", "shifted"]

WINDOW_PX = 512
# Largest difference of a probability, flipped pixels per million. fp32 differs by the order of
# additions only; where values are rounded to 8 or 16 bits, the same order decides a rounding now
# and then, and the step is as large as the format's.
_TOLERANCE = {"fp32": (1e-4, 0.1)}
_ROUNDED_TOLERANCE = (0.2, 200.0)


@dataclass(frozen=True)
class WindowCheck:
    """One window, tiled against another way."""

    against: Way
    """What the tiled result was compared with."""

    y_px: int
    """Top row of the window at the working level."""

    x_px: int
    """Left column."""

    height_px: int
    """Rows compared."""

    width_px: int
    """Columns compared."""

    seams: int
    """Tiles of the plan that meet in the window, less one."""

    largest_difference: float
    """Largest difference of a channel."""

    flipped_px: int
    """Pixels of another class."""

    @property
    def pixels(self) -> int:
        """Pixels compared."""
        return self.height_px * self.width_px


@dataclass(frozen=True)
class VerifyReport:
    """What was compared and how far it differs."""

    checks: tuple[WindowCheck, ...]
    """Two for each window: untiled and shifted."""

    engine: str
    """Engine that computed it."""

    precision: str
    """Its precision."""

    tile_px: int
    """Tile of the plan."""

    halo_px: int
    """Halo of the plan."""

    max_difference: float
    """Tolerance: largest difference of a channel."""

    max_flipped_per_million: float
    """Tolerance: pixels of another class, per million."""

    @property
    def pixels(self) -> int:
        """Pixels compared, each once for each way."""
        return sum(check.pixels for check in self.checks)

    @property
    def largest_difference(self) -> float:
        """Largest difference of a channel anywhere."""
        return max((check.largest_difference for check in self.checks), default=0.0)

    @property
    def flipped_px(self) -> int:
        """Pixels of another class."""
        return sum(check.flipped_px for check in self.checks)

    @property
    def flipped_per_million(self) -> float:
        """The same, per million compared."""
        return self.flipped_px / max(1, self.pixels) * 1e6

    @property
    def ok(self) -> bool:
        """Whether both tolerances hold; one flipped pixel is always allowed.

        A few windows hold fewer pixels than the ten million among which one may flip.
        """
        allowed_px = max(1.0, self.pixels * self.max_flipped_per_million / 1e6)
        return self.largest_difference <= self.max_difference and self.flipped_px <= allowed_px

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "ok": self.ok,
            "largest_difference": self.largest_difference,
            "flipped_px": self.flipped_px,
            "flipped_per_million": self.flipped_per_million,
            "pixels": self.pixels,
            **asdict(self),
        }


def verify(
    slide: str | os.PathLike[str] | Slide,
    options: InferOptions | None = None,
    *,
    windows: int = 8,
    seed: int = 0,
    max_difference: float | None = None,
    max_flipped_per_million: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    open_engine: OpenEngine | None = None,
) -> VerifyReport:
    """Compare tiled with shifted and untiled results on random windows.

    Parameters
    ----------
    slide : path or Slide
        A slide that is given open stays open.
    options : InferOptions, optional
        As for `infer_slide`; an image that fits into one tile gets smaller ones, so that there is
        something to compare.
    windows : int
        How many windows of 512 x 512 pixels (or the image, if it is smaller).
    seed : int
        Of their places and of the shifts.
    max_difference, max_flipped_per_million : float, optional
        Tolerances; by default 1e-4 (or what the bundle's halo leaves, if that is more) and 0.1 at
        fp32, and wider ones at other precisions.
    progress : callable, optional
        Called with windows done and windows in all.
    open_engine : callable, optional
        Opens an engine for a bundle, options and a tile size.

    Returns
    -------
    VerifyReport

    Raises
    ------
    CellsegError
        If slide, model or engine are not usable.
    """
    options = options or InferOptions()
    bundle = Bundle.open(options.model)
    opener = open_engine or open_engine_for
    with opened_slide(slide, options.mpp) as opened:
        job = _job_with_seams(opened, bundle, options)
        with closing(opener(bundle, options, job.plan.tile_hw)) as engine:
            fixed = _same_engine(options, engine)
            with closing(opener(bundle, fixed, _untiled_hw(job))) as untiled:
                checks = list(_checks(job, engine, untiled, windows, seed, progress))
            difference, flips = _tolerances(engine.precision, bundle)
            return VerifyReport(
                checks=tuple(checks),
                engine=engine.name,
                precision=engine.precision,
                tile_px=job.plan.y.tile_px,
                halo_px=job.plan.y.halo_px,
                max_difference=difference if max_difference is None else max_difference,
                max_flipped_per_million=(
                    flips if max_flipped_per_million is None else max_flipped_per_million
                ),
            )


def _checks(
    job: Job,
    engine: Engine,
    untiled: Engine,
    windows: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[WindowCheck]:
    """Yield two checks for each window."""
    rng = np.random.default_rng(seed)
    height, width = window_hw = _window_hw(job)
    for number in range(windows):
        yx = _place(job, rng, number, window_hw)
        parts = [(tile.read_yx, tile.keep_yx, tile.keep_hw) for tile in _tiles_at(job, yx)]
        tiled = _stitched(job, engine, parts, yx)
        others: dict[Way, NDArray[np.float32]] = {
            "untiled": _run_untiled(job, untiled, yx),
            "shifted": _stitched(job, engine, _shifted_parts(job, rng, yx), yx),
        }
        for way, other in others.items():
            difference, flipped = _compare(job, tiled, other)
            yield WindowCheck(way, *yx, height, width, len(parts) - 1, difference, flipped)
        if progress is not None:
            progress(number + 1, windows)


Part = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # read_yx, keep_yx, keep_hw


def _place(
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


def _tiles_at(job: Job, yx: tuple[int, int]) -> list[Any]:
    height, width = _window_hw(job)
    return list(job.plan.tiles_in(yx[0], yx[1], yx[0] + height, yx[1] + width))


def _shifted_parts(job: Job, rng: np.random.Generator, yx: tuple[int, int]) -> list[Part]:
    """Lay the plan's tiles on a grid of another phase; flush at the borders, like the plan's."""
    axes = [
        _shifted_axis(axis, int(rng.integers(0, axis.core_px // axis.stride_px)), start, side)
        for axis, start, side in zip((job.plan.y, job.plan.x), yx, _window_hw(job), strict=True)
    ]
    return [
        ((read_y, read_x), (top, left), (bottom - top, right - left))
        for read_y, top, bottom in axes[0]
        for read_x, left, right in axes[1]
    ]


def _shifted_axis(axis: Any, strides: int, start: int, side: int) -> list[tuple[int, int, int]]:
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


def _stitched(
    job: Job, engine: Engine, parts: list[Part], yx: tuple[int, int]
) -> NDArray[np.float32]:
    """Run tiles and put the window together."""
    channels = len(job.bundle.manifest.channels)
    window = np.full((*_window_hw(job), channels), np.nan, np.float32)
    for read_yx, keep_yx, keep_hw in parts:
        found = engine.infer(job.view.read(*read_yx, *job.plan.tile_hw))
        target, source = [], []
        for read, keep, size, start, side in zip(
            read_yx, keep_yx, keep_hw, yx, window.shape[:2], strict=True
        ):
            low, high = max(keep, start), min(keep + size, start + side)
            target.append(slice(low - start, high - start))
            source.append(slice(low - read, high - read))
        window[tuple(target)] = found[tuple(source)]
    assert not np.isnan(window).any(), "every pixel of the window is kept by a tile"
    return window


def _run_untiled(job: Job, engine: Engine, yx: tuple[int, int]) -> NDArray[np.float32]:
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
    height, width = _window_hw(job)
    y, x = yx[0] - origin[0], yx[1] - origin[1]
    return found[y : y + height, x : x + width]


def _compare(job: Job, tiled: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, int]:
    hw = (tiled.shape[0], tiled.shape[1])
    classes = [job.rule.classes(np.ascontiguousarray(each), (0, 0), hw) for each in (tiled, other)]
    flipped = int(np.count_nonzero(classes[0] != classes[1]))
    return float(np.abs(tiled - other).max()), flipped


def _window_hw(job: Job) -> tuple[int, int]:
    height, width = job.plan.extent_hw
    return min(WINDOW_PX, height), min(WINDOW_PX, width)


def _untiled_hw(job: Job) -> tuple[int, int]:
    """Size of the untiled run: window, twice the halo on each side, and the rounding."""
    sizes = []
    for axis, side in zip((job.plan.y, job.plan.x), _window_hw(job), strict=True):
        wanted = side + 4 * axis.halo_px + 2 * axis.stride_px
        sizes.append(min(axis.rounded_px, -(-wanted // axis.stride_px) * axis.stride_px))
    return sizes[0], sizes[1]


def _job_with_seams(slide: Slide, bundle: Bundle, options: InferOptions) -> Job:
    """Prepare as `infer` does; where one tile would hold the image, take smaller ones."""
    job = prepare(slide, bundle, options)
    if len(job.plan) > 1 or options.tile_px is not None:
        return job
    card = bundle.manifest
    side = max(max(job.view.hw) // 2, 2 * card.halo_px + card.stride)
    smaller = -(-side // card.stride) * card.stride
    try:
        return prepare(slide, bundle, options, min(smaller, choose_tile_px(bundle, options)))
    except TilePlanError:
        return job


def _same_engine(options: InferOptions, engine: Engine) -> InferOptions:
    """Let the untiled run take the engine of the tiled one."""
    return replace(options, engine=engine.name, precision=engine.precision)


def _tolerances(precision: str, bundle: Bundle) -> tuple[float, float]:
    difference, flips = _TOLERANCE.get(precision, _ROUNDED_TOLERANCE)
    return max(difference, bundle.manifest.halo_tolerance), flips
