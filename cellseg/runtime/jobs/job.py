"""What a run is, settled before its first tile: slide, model, range, tissue, tiles, identity."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import SlideError
from cellseg.runtime.bundles.decide import ClassRule, cell_rule
from cellseg.runtime.engines.table import ENGINES
from cellseg.runtime.engines.trim import NOTHING, Sides
from cellseg.runtime.shapes.limit import REACH_OF_CELLS_PX
from cellseg.runtime.shapes.roi import Roi, read_roi
from cellseg.runtime.slides.channels import chosen_channel
from cellseg.runtime.slides.readers import open_slide
from cellseg.runtime.store.identity import slide_identity
from cellseg.runtime.tiles.blend import Blend, BlendStitcher, band_bytes
from cellseg.runtime.tiles.plan import TilePlan, plan_tiles, tile_px_for
from cellseg.runtime.tiles.stitcher import CropStitcher
from cellseg.runtime.tissue.file import read_tissue_mask
from cellseg.runtime.tissue.mask import TissueMask, find_tissue
from cellseg.runtime.view.doubts import coarse_doubt, flat_doubt, painted_doubt, slide_doubts
from cellseg.runtime.view.fit import wanted_fit
from cellseg.runtime.view.normalize import Intensities, Normalize, full_range, intensities_of
from cellseg.runtime.view.painted_stain import sum_products
from cellseg.runtime.view.value_counts import count_samples, samples
from cellseg.runtime.view.working import WorkingView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cellseg.runtime.bundles.bundle import Bundle
    from cellseg.runtime.bundles.manifest import InteriorBorder
    from cellseg.runtime.engines import Engine
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.shapes.limit import Limit
    from cellseg.runtime.slides.channels import Wanted
    from cellseg.runtime.slides.slide import Slide
    from cellseg.runtime.store.result_store import Plane
    from cellseg.runtime.tiles.plan import Tile
    from cellseg.runtime.tiles.stitcher import Stitcher

__all__ = [
    "Job",
    "choose_tile_px",
    "open_engine_for",
    "open_view",
    "opened_slide",
    "prepare",
    "with_tile",
]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that decides a result, but for the engine."""

    slide: Slide
    """Open."""

    bundle: Bundle
    """The model."""

    view: WorkingView
    """The slide as the model sees it."""

    seen: Intensities
    """What of the slide's values the model sees."""

    rule: ClassRule
    """From channels to classes."""

    mask: TissueMask
    """Where the model is needed."""

    plan: TilePlan
    """All tiles, those without tissue included."""

    todo: NDArray[np.int64]
    """Indices of the tiles to run, ascending."""

    roi: Roi | None = None
    """Regions that alone are wanted; None: all of the slide."""

    blend: Blend | None = None
    """How overlapping tiles are joined; None: each is cropped to what it keeps."""

    planes: tuple[Plane, ...] = ("classes",)
    """What is kept of each tile: what the outputs need."""

    doubts: tuple[str, ...] = ()
    """What speaks against the slide, a sentence each."""

    @property
    def tells_cells(self) -> bool:
        """Whether the model tells cells apart."""
        return self.bundle.manifest.head.instances is not None

    @property
    def cell_rule(self) -> InteriorBorder | None:
        """How cells are told apart; None if the model does not."""
        return cell_rule(self.bundle.manifest, self.rule.threshold)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What of the maps is wanted, where more is run so that cells on its edge are whole."""
        roi = None if self.roi is None or not self.roi.reach_px else self.roi
        return tuple(limit for limit in (roi, self.mask.wanted) if limit is not None)

    @property
    def looked_at(self) -> tuple[Limit, ...]:
        """What bounds where cells were looked for; nothing, where that is all of the slide."""
        if self.roi is not None:
            return (self.roi,)  # whose areas count as they were drawn
        return () if self.mask.ground == "whole" else (self.mask.wanted or self.mask,)

    @property
    def band_bytes(self) -> int:
        """What joining tiles holds at most, bytes: nothing, where they are cropped."""
        if self.blend is None:
            return 0
        return band_bytes(self.plan, self.todo, len(self.bundle.manifest.channels))

    def stitcher(self, left: NDArray[np.int64]) -> Stitcher:
        """Return what joins tiles.

        Parameters
        ----------
        left : int64, shape (n,)
            Those of ``todo`` whose kept parts are wanted, ascending.
        """
        if self.blend is None:
            return CropStitcher(left)
        channels = len(self.bundle.manifest.channels)
        return BlendStitcher(self.plan, self.blend, self.todo, left, channels, self.band_bytes)

    def unseen(self, tile: Tile) -> Sides:
        """Return what of a tile nobody looks at: its halo, where tiles are cropped."""
        if self.blend is not None:
            return NOTHING
        return Sides.around(tile.inner_yx, tile.keep_hw, self.plan.tile_hw)

    def blank_outside(self, plane: NDArray[np.uint8], y0: int, x0: int) -> None:
        """Set what lies outside tissue, and beyond reach of the regions, to background, in place.

        Parameters
        ----------
        plane : uint8, shape (h, w)
            Part of a map of the working level.
        y0, x0 : int
            Its top-left corner.
        """
        self.mask.blank_outside(plane, y0, x0)
        if self.roi is not None:
            self.roi.blank_beyond(plane, y0, x0)

    @property
    def palette(self) -> NDArray[np.uint8]:
        """Colour of each class, uint8 (n, 3)."""
        return np.array([item.color for item in self.bundle.manifest.classes], np.uint8)

    @property
    def class_names(self) -> list[str]:
        """Name of each class, background first."""
        return [item.name for item in self.bundle.manifest.classes]

    @property
    def kept_px(self) -> int:
        """Pixels that the tiles to run keep."""
        columns = len(self.plan.x)
        heights, widths = np.diff(self.plan.y.keep_edges()), np.diff(self.plan.x.keep_edges())
        return int((heights[self.todo // columns] * widths[self.todo % columns]).sum())

    @property
    def shown(self) -> WorkingView:
        """The slide as pictures show it: as the model sees it, but in its own colours."""
        return self.view.in_range(Intensities(self.seen.value_range))

    @property
    def identity(self) -> dict[str, Any]:
        """What the result depends on besides the engine, as JSON values."""
        card, chosen = self.bundle.manifest, chosen_channel(self.slide)
        cells = self.cell_rule
        sure = {} if cells in (None, card.head.instances) else {"sure": cells.sure_probability}
        return sure | {
            "slide": slide_identity(self.slide),
            "model": self.bundle.sha256,
            "model_name": f"{card.name} {card.version}",
            "level": self.view.level,
            "scale": self.view.scale,
            "mpp": list(self.view.mpp) if self.view.mpp else None,
            "range": list(self.seen.value_range),
            "channel": self.seen.channel if chosen is None else f"number {chosen.number}",
            "threshold": self.rule.threshold,
            "tissue": self.mask.digest,
            "roi": None if self.roi is None else self.roi.digest,
            "tile_px": self.plan.y.tile_px,
            "tile_hw": list(self.plan.tile_hw),
            "halo_px": self.plan.y.halo_px,
            "stride_px": self.plan.y.stride_px,
            "extent_hw": list(self.plan.extent_hw),
            "blend": None if self.blend is None else asdict(self.blend),
        }


def prepare(slide: Slide, bundle: Bundle, options: InferOptions, tile_px: int | None = None) -> Job:
    """Settle a run: measure the range, look for tissue, plan the tiles.

    Parameters
    ----------
    slide : Slide
        Open.
    bundle : Bundle
        The model.
    options : InferOptions
        ``threshold``, ``tissue_mask``, ``roi``, ``blend``; ``tile_px`` goes before the parameter.
    tile_px : int, optional
        Tile of an unfinished run.

    Raises
    ------
    SlideError
        If the slide has no pixel size and the model needs one.
    RegionError
        If a file of regions or a tissue mask is none, or does not fit the slide.
    TilePlanError
        If tile, halo and stride do not fit.
    """
    card = bundle.manifest
    wanted = card.input.normalize
    # First what can be refused before a pixel is read: no pixel size, a tile that does not fit.
    unread = open_view(slide, bundle, options)
    extent_hw = unread.hw
    reach_px = 0 if card.head.instances is None else REACH_OF_CELLS_PX
    roi = None
    if options.roi is not None:
        roi = read_roi(options.roi, unread.l0_per_wl, extent_hw, reach_px)
    side_px = choose_tile_px(bundle, options, tile_px, unread.fit_hw)
    plan, blend = _plan(bundle, extent_hw, side_px, options)
    seen, of_values = _intensities(slide, Normalize(wanted.kind, wanted.low, wanted.high))
    coarse = coarse_doubt(slide, card.mpp if unread.fit_hw is None else None)
    doubts = (
        *slide_doubts(slide, needs_mpp=card.mpp is not None),
        *filter(None, (coarse, *of_values)),
    )
    for doubt in doubts:
        _LOG.warning(doubt)
    view = unread.in_range(seen)
    mask = _mask(slide, view.hw, options, reach_px)
    rule = ClassRule.of(card, options.threshold)
    todo = _todo(mask, roi, plan)
    return Job(slide, bundle, view, seen, rule, mask, plan, todo, roi, blend, doubts=doubts)


def _intensities(slide: Slide, normalize: Normalize) -> tuple[Intensities, tuple[str | None, ...]]:
    """Measure what is seen, as training does; return it, and doubts that samples raise."""
    if normalize.kind == "none":
        return Intensities(full_range(slide.dtype)), ()
    counts = count_samples(slide)
    found = intensities_of(counts, normalize, lambda: sum_products(samples(slide)))
    painted = painted_doubt(slide, counts) if found.channel is None else None
    return found, (flat_doubt(slide, found.value_range), painted)


def open_view(slide: Slide, bundle: Bundle, options: InferOptions) -> WorkingView:
    """Look at a slide as the model does, in the dtype's full range of values.

    Raises
    ------
    SlideError
        If the slide has no pixel size and the model needs one, or the model knows whole images
        only and this is a slide.
    """
    card = bundle.manifest
    fit_hw = wanted_fit(card, slide, options.fit)
    return WorkingView(slide, card.mpp, fit_hw=fit_hw)


def with_tile(job: Job, options: InferOptions, tile_px: int) -> Job:
    """Return a job with tiles of another size; all that was settled with pixels stays.

    Raises
    ------
    TilePlanError
        If tile, halo and stride do not fit.
    """
    if tile_px == job.plan.y.tile_px:
        return job
    plan, blend = _plan(job.bundle, job.view.hw, tile_px, options)
    return replace(job, plan=plan, blend=blend, todo=_todo(job.mask, job.roi, plan))


def _todo(mask: TissueMask, roi: Roi | None, plan: TilePlan) -> NDArray[np.int64]:
    """Return the tiles that touch tissue, and the reach of a region if some alone are wanted."""
    todo = mask.tiles_with_tissue(plan)
    return todo if roi is None else todo[roi.touches(plan)[todo]]


def _plan(
    bundle: Bundle, extent_hw: tuple[int, int], tile_px: int, options: InferOptions
) -> tuple[TilePlan, Blend | None]:
    """Plan tiles that are cropped, or that overlap; a tile alone has nothing to blend with."""
    card = bundle.manifest
    blend = Blend.of(options.blend, options.overlap)
    if blend is not None:
        plan = blend.plan(extent_hw, tile_px, card.stride)
        if len(plan) > 1:
            return plan, blend
    is_even = not _may_build(options.engine)
    return plan_tiles(extent_hw, tile_px, card.halo_px, card.stride, is_even=is_even), None


def _may_build(engine: str) -> bool:
    """Tell whether an engine that the options allow is built for each size, which takes minutes."""
    allowed = [entry for name, entry in ENGINES.items() if engine in ("auto", name)]
    return any(entry.needs_gpu and entry.is_available() for entry in allowed)


def _mask(slide: Slide, wl_hw: tuple[int, int], options: InferOptions, reach_px: int) -> TissueMask:
    """Read the user's mask, or find our own, or leave nothing out."""
    if not isinstance(options.tissue_mask, bool):
        given = read_tissue_mask(options.tissue_mask, slide, wl_hw)
        return given.grown(reach_px) if reach_px else given  # ours has a margin, where nothing is
    if options.tissue_mask and slide.kind == "slide":
        return find_tissue(slide, wl_hw, options.tissue_limits)
    return TissueMask.whole(wl_hw)


def choose_tile_px(
    bundle: Bundle,
    options: InferOptions,
    earlier: int | None = None,
    fit_hw: tuple[int, int] | None = None,
) -> int:
    """Return the user's tile, else that of the run to go on with, else our own.

    What was trained on as a whole (``fit_hw``) is run as a whole.
    """
    card = bundle.manifest
    usual_px = tile_px_for(card.halo_px, card.stride)
    if fit_hw is not None:
        usual_px = max(usual_px, -(-max(fit_hw) // card.stride) * card.stride)
    return options.tile_px or earlier or usual_px


def open_engine_for(bundle: Bundle, options: InferOptions, tile_hw: tuple[int, int]) -> Engine:
    """Open the engine that the options ask for."""
    from cellseg.runtime.engines import open_engine

    return open_engine(
        bundle,
        options.engine,
        options.precision,
        tile_hw,
        options.threads,
        most_at_once=options.tiles_at_once,
        sparing=options.max_ram_bytes is not None,
    )


@contextmanager
def opened_slide(
    slide: str | os.PathLike[str] | Slide, mpp: float | None, channel: Wanted = None
) -> Iterator[Slide]:
    """Open a path and close it again; leave a slide that came open as it is."""
    if isinstance(slide, np.ndarray):
        raise SlideError(
            f"A run reads a file, or a Slide. Received: an array of shape {slide.shape}.",
            hint="cellseg.Segmenter.load(...)(array) segments arrays.",
        )
    if not isinstance(slide, (str, os.PathLike)):
        yield slide
        return
    opened = open_slide(slide, mpp, channel)
    try:
        yield opened
    finally:
        opened.close()
