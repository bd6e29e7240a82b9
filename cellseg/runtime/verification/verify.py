"""Is a tiled result what the whole image would have given? Random windows, computed many ways.

::

    tiled           the windows of the plan that `infer` uses, cropped
    untiled         one run over the window with twice the halo around it
    shifted         the same tiles on a grid moved by a random multiple of the stride
    tile 512 px ..  tiles of other sizes
    hann, gaussian  overlapping tiles, blended: no promise, but good to know

Windows lie where tiles meet, and at the slide's borders. With an exact halo and a true grid all but
the last agree but for the last bits of float32: an engine may add in another order for another
shape. Blended results differ by design, and do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import TilePlanError
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.jobs.job import (
    choose_tile_px,
    open_engine_for,
    opened_slide,
    prepare,
    with_tile,
)
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.tiles.blend import Blend
from cellseg.runtime.verification.picture import Sheet, check_place
from cellseg.runtime.verification.report import VerifyReport, WindowCheck
from cellseg.runtime.verification.ways import (
    blended_plan,
    place_window,
    run_blended,
    run_cropped,
    run_untiled,
    shifted_parts,
    tiles_at,
    untiled_hw,
    window_hw,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.run.engine_shelf import OpenEngine
    from cellseg.runtime.slides.slide import Slide

__all__ = ["verify"]

Run = Callable[[tuple[int, int]], "NDArray[np.float32]"]

# Largest difference of a probability, flipped pixels per million. fp32 differs by the order of
# additions only; where values are rounded to 8 or 16 bits, the same order decides a rounding now
# and then, and the step is as large as the format's.
_TOLERANCE = {"fp32": (1e-4, 0.1)}
_ROUNDED_TOLERANCE = (0.2, 200.0)
_EVERY_PIXEL = 1e6  # in a million


def verify(
    slide: str | os.PathLike[str] | Slide,
    options: InferOptions | None = None,
    *,
    windows: int = 8,
    seed: int = 0,
    max_difference: float | None = None,
    max_flipped_per_million: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    picture: str | os.PathLike[str] | None = None,
    open_engine: OpenEngine | None = None,
) -> VerifyReport:
    """Compare a tiled result with what other ways give, on random windows.

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
    picture : path, optional
        A PNG that shows the windows and where they differ.
    open_engine : callable, optional
        Opens an engine for a bundle, options and a tile size.

    Returns
    -------
    VerifyReport

    Raises
    ------
    CellsegError
        If slide, model or engine are not usable, or the picture has no place.
    """
    if picture is not None:
        check_place(Path(picture))
    options = replace(options or InferOptions(), blend="crop", overlap=None)
    bundle = Bundle.open(options.model)
    opener = open_engine or open_engine_for
    with opened_slide(slide, options.mpp, options.channel) as opened:
        job = _job_with_seams(opened, bundle, options)
        with ExitStack() as stack:
            engine = stack.enter_context(closing(opener(bundle, options, job.plan.tile_hw)))
            fixed, engines = _same_engine(options, engine), {job.plan.tile_hw: engine}

            def open_shape(tile_hw: tuple[int, int]) -> Engine:
                if tile_hw not in engines:
                    engines[tile_hw] = stack.enter_context(closing(opener(bundle, fixed, tile_hw)))
                return engines[tile_hw]

            difference, flips = _tolerances(engine.precision, bundle)
            rng = np.random.default_rng(seed)
            ways = _ways(job, options, engine, open_shape, rng)
            sheet = Sheet(job, difference if max_difference is None else max_difference)
            checks = list(_checks(job, ways, rng, windows, progress, sheet))
            if picture is not None:
                sheet.write(Path(picture))
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


@dataclass(frozen=True)
class _Way:
    """How to compute a window, and whether it should be as tiled."""

    name: str
    run: Run
    is_exact: bool = True


def _ways(
    job: Job,
    options: InferOptions,
    engine: Engine,
    open_shape: Callable[[tuple[int, int]], Engine],
    rng: np.random.Generator,
) -> list[_Way]:
    """List the ways, the tiled one first."""

    def shifted(yx: tuple[int, int]) -> NDArray[np.float32]:
        return run_cropped(job, engine, yx, shifted_parts(job, rng, yx))

    whole = open_shape(untiled_hw(job))
    ways = [
        _Way("tiled", lambda yx: run_cropped(job, engine, yx)),
        _Way("untiled", lambda yx: run_untiled(job, whole, yx)),
        _Way("shifted", shifted),
    ]
    for other in _other_tiles(job, options):
        run = partial(run_cropped, other, open_shape(other.plan.tile_hw))
        ways.append(_Way(f"tile {other.plan.y.tile_px} px", run))
    for window in ("hann", "gaussian"):
        blend = Blend.of(window, None)
        if blend is not None and len(job.plan) > 1:
            opened = open_shape(blended_plan(job, blend).tile_hw)
            ways.append(_Way(window, partial(run_blended, job, opened, blend), is_exact=False))
    return ways


def _other_tiles(job: Job, options: InferOptions) -> list[Job]:
    """Return the job with tiles of about half and of one and a half the size."""
    stride, halo, usual = job.plan.y.stride_px, job.plan.y.halo_px, job.plan.y.tile_px
    jobs: list[Job] = []
    for wanted in (usual // 2, usual + usual // 2):
        side = max(-(-wanted // stride) * stride, 2 * halo + stride)
        other = with_tile(job, options, -(-side // stride) * stride)
        if other.plan.tile_hw not in [each.plan.tile_hw for each in (job, *jobs)]:
            jobs.append(other)
    return jobs


def _checks(
    job: Job,
    ways: list[_Way],
    rng: np.random.Generator,
    windows: int,
    progress: Callable[[int, int], None] | None,
    sheet: Sheet,
) -> Iterator[WindowCheck]:
    """Yield a check for each window and way."""
    height, width = hw = window_hw(job)
    for number in range(windows):
        yx = place_window(job, rng, number, hw)
        tiled, seams = ways[0].run(yx), len(tiles_at(job, yx)) - 1
        classes = job.rule.classes(tiled, (0, 0), hw)
        differences: dict[str, NDArray[np.float32]] = {}
        for way in ways[1:]:
            found = np.ascontiguousarray(way.run(yx))
            differences[way.name] = np.abs(tiled - found).max(axis=2)
            flipped = int(np.count_nonzero(classes != job.rule.classes(found, (0, 0), hw)))
            largest = float(differences[way.name].max())
            yield WindowCheck(way.name, *yx, height, width, seams, largest, flipped, way.is_exact)
        sheet.see(yx, classes, differences)
        if progress is not None:
            progress(number + 1, windows)


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
    allowed = bundle.manifest.halo_tolerance
    # What differs by more than rounding does may fall on either side of a threshold.
    return (difference, flips) if allowed <= difference else (allowed, _EVERY_PIXEL)
