"""One model on frames of changing shapes: what is needed for a shape is made once and kept.

A frame goes through the same plan, engine and stitcher as a slide. It is one tile where it can be:
up to 2048 px a side; larger ones are tiled, with the halo that the bundle asks for.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import SlideError
from cellseg.live.frame_cells import CellFinder, measure
from cellseg.live.frame_view import FrameView
from cellseg.live.pools import ResultPool
from cellseg.live.stream_intensities import StreamIntensities
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.engines.select import check_engine, open_engine
from cellseg.runtime.engines.trim import Output
from cellseg.runtime.jobs.job import open_view, prepare
from cellseg.runtime.kernels.frame import gather, laplacian_sums
from cellseg.runtime.run.warmup import load_class_rule
from cellseg.runtime.segmenter import infer_options, nearest, refuse_parts_of_files
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.tiles.plan import plan_tiles
from cellseg.runtime.view.doubts import small_cells_doubt
from cellseg.runtime.view.normalize import Intensities, Normalize
from cellseg.runtime.view.painted_stain import painted_note

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.jobs.options import InferOptions
    from cellseg.runtime.run.engine_shelf import OpenEngine

    IntensitiesOf = Callable[[NDArray[Any]], Intensities]

__all__ = ["FrameSegmenter", "Seen", "check_request"]

_LOG = logging.getLogger(__name__)
_SHAPES_KEPT = 2
_LARGEST_TILE_PX = 2048
_GREEN = 1
_FOCUS_ROWS = 128  # so many say as much as all


@dataclass(frozen=True, eq=False)
class Seen:
    """What the model sees in a frame; fields as in `cellseg.live.result.FrameResult`."""

    classes: NDArray[np.uint8]
    labels: NDArray[np.uint32] | None
    counts: Mapping[str, int]
    cells: NDArray[Any] | None
    focus: float
    engine_ms: float
    intensities: Intensities


class FrameSegmenter:
    """Segments one frame after the other, in the caller's thread.

    Parameters
    ----------
    bundle : Bundle
        The model.
    options : InferOptions
        ``engine``, ``precision``, ``threads``, ``threshold``, ``tile_px`` and ``mpp`` count.
    open_engine : callable, optional
        Opens an engine for a bundle, options and a tile size.
    value_range : (float, float), optional
        Values that the model sees as 0 and 255; None: measured, as the bundle asks.
    range_frames : int
        Frames that they are measured in; see `StreamIntensities`.

    Raises
    ------
    CellsegError
        If an option chooses a part of a file, see `refuse_parts_of_files`.
    EngineError
        If no engine here runs the model at the precision.
    TilePlanError
        If a tile is no multiple of the model's stride, or too small for its halo.

    Attributes
    ----------
    seen : Intensities or None
        What is seen of the newest frame's values; None before the first.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: InferOptions,
        open_engine: OpenEngine | None = None,
        value_range: tuple[float, float] | None = None,
        range_frames: int = 1,
    ) -> None:
        refuse_parts_of_files(options)
        check_request(bundle, options, has_engine=open_engine is not None)
        self._bundle, self._options, self._range = bundle, options, value_range
        self._range_frames = range_frames
        self._streams: dict[tuple[Any, str | None], StreamIntensities] = {}
        self._told: dict[str | None, int | None] = {}
        self._has_warned = False
        self.seen: Intensities | None = None
        self._open_engine = open_engine or open_for_frames
        self._shapes: OrderedDict[tuple[Any, ...], _FrameRun] = OrderedDict()
        card = bundle.manifest
        self.model_name = f"{card.name} {card.version}"
        self.class_names = tuple(item.name for item in card.classes)
        self.palette = tuple(item.color for item in card.classes)
        self.engine_name: str | None = None

    @classmethod
    def load(
        cls,
        model: str | Path | Bundle,
        open_engine: OpenEngine | None = None,
        value_range: tuple[float, float] | None = None,
        range_frames: int = 1,
        **options: Any,
    ) -> FrameSegmenter:
        """Open a model by name or path; ``options`` are fields of `InferOptions`."""
        bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        return cls(bundle, infer_options(**options), open_engine, value_range, range_frames)

    @property
    def counted_names(self) -> tuple[str, ...]:
        """Classes whose cells are counted: all but background, if cells are told apart."""
        return () if self._bundle.manifest.head.instances is None else self.class_names[1:]

    def __call__(self, image: Any, channel: str | None = None) -> Seen:
        """Segment a frame.

        Parameters
        ----------
        image : array
            The frame.
        channel : str, optional
            Frames of one channel share their range of intensities, and are painted or not.

        Raises
        ------
        SlideError
            If it is no image.
        EngineError
            If the engine fails.
        """
        run = self._run_for(image)
        found = run(image, self._stream_of(image, channel).add)
        self._tell(found.intensities, channel)
        self._warn_of_small(run, found.cells)
        return found

    def warm_up(self, image: NDArray[Any]) -> None:
        """Open what frames like this one need; it leaves no trace in what follows."""
        run = self._run_for(image)
        run.show(image, lambda _: Intensities((0.0, 255.0), channel=0))
        run(image, lambda _: Intensities((0.0, 255.0)))

    def close(self) -> None:
        """Release engines and buffers."""
        while self._shapes:
            self._shapes.popitem()[1].engine.close()

    def _stream_of(self, image: NDArray[Any], channel: str | None) -> StreamIntensities:
        """Return what frames of one dtype and channel share."""
        dtype = image.dtype.newbyteorder("=")
        stream = self._streams.get((dtype, channel))
        if stream is None:
            asked = self._bundle.manifest.input.normalize
            wanted = Normalize(asked.kind, asked.low, asked.high)
            stream = StreamIntensities(wanted, dtype, self._range_frames, self._range)
            self._streams[dtype, channel] = stream
        return stream

    def _tell(self, found: Intensities, channel: str | None) -> None:
        """Keep what is seen; say once where that is a painted stain, and where no longer."""
        self.seen = found
        if found.channel == self._told.get(channel):
            return
        self._told[channel] = found.channel
        frames = "frames" if channel is None else f"frames of {channel}"
        now = found.channel
        _LOG.info(
            "%s: %s", frames, "colours are seen as they are" if now is None else painted_note(now)
        )

    def _warn_of_small(self, run: _FrameRun, cells: NDArray[Any] | None) -> None:
        """Say once that cells are smaller than the model tells apart."""
        if cells is None or self._has_warned:
            return
        doubt = small_cells_doubt(run.job.view, self._bundle.manifest, cells["area_px"])
        if doubt is not None:
            self._has_warned = True
            _LOG.warning("%s", doubt)

    def _run_for(self, image: Any) -> _FrameRun:
        if not isinstance(image, np.ndarray):
            found = image if isinstance(image, Exception) else type(image).__name__
            raise SlideError(f"A frame must be an array on the CPU. Received: {found}.")
        if image.dtype == bool:  # a plain image may be one; no camera's is
            raise SlideError(
                "A frame must hold uint8 or uint16. Received: dtype=bool.",
                "Scale it first: frame.astype('uint8') * 255.",
            )
        key = (image.shape, image.dtype)
        run = self._shapes.pop(key, None)
        if run is None:
            run = self._open(image)
        self._shapes[key] = run
        while len(self._shapes) > _SHAPES_KEPT:
            self._shapes.popitem(last=False)[1].engine.close()
        return run

    def _open(self, image: NDArray[Any]) -> _FrameRun:
        slide = ArraySlide(image, self._options.mpp, path="a frame")
        options = self._options
        extent_hw = open_view(slide, self._bundle, options).hw
        if options.tile_px is None:
            options = replace(options, tile_px=_tile_px(self._bundle, extent_hw))
        job = prepare(slide, self._bundle, options)
        engine = self._open_engine(self._bundle, options, job.plan.tile_hw)
        self.engine_name = f"{engine.name} {engine.precision}"
        view = FrameView(image.shape, job.slide.dtype, job)
        return _FrameRun(job, engine, view, self.counted_names)


def open_for_frames(bundle: Bundle, options: InferOptions, tile_hw: tuple[int, int]) -> Engine:
    """Open the engine that the options ask for, for tiles that come one by one."""
    return open_engine(
        bundle, options.engine, options.precision, tile_hw, options.threads, one_at_a_time=True
    )


class _FrameRun:
    """Plan, engine and buffers for frames of one shape and dtype."""

    def __init__(
        self, job: Job, engine: Engine, view: FrameView, counted_names: tuple[str, ...]
    ) -> None:
        self.job, self.engine, self._view = job, engine, view
        load_class_rule(job)
        channels = len(job.bundle.manifest.channels)
        self._names = counted_names
        self._canvas = np.empty((*job.plan.rounded_hw, channels), np.float32)
        self._tile = np.empty((*job.plan.tile_hw, 3), np.uint8)
        self._output = np.empty((*job.plan.tile_hw, channels), np.float32)
        self._stitcher = job.stitcher(np.arange(len(job.plan), dtype=np.int64))
        self._finder = CellFinder(job) if counted_names else None
        self._edges = np.zeros(3, np.int64)
        base = job.slide.levels[0]
        self._pool = ResultPool((base.height_px, base.width_px), self._finder is not None)
        self._is_scaled = job.view.scale != 1.0
        if self._is_scaled:
            self._rows = nearest(base.height_px, job.view.hw[0])
            self._columns = nearest(base.width_px, job.view.hw[1])
            self._wl_classes = np.empty(job.view.hw, np.uint8)
            self._wl_labels = np.empty(job.view.hw, np.uint32)

    def show(self, image: NDArray[Any], intensities_of: IntensitiesOf) -> Intensities:
        """Bring a frame before the model; return what is seen of its values."""
        return self._view.show(image, intensities_of)

    def __call__(self, image: NDArray[Any], intensities_of: IntensitiesOf) -> Seen:
        intensities = self.show(image, intensities_of)
        started_s = time.perf_counter()
        self._infer()
        engine_ms = (time.perf_counter() - started_s) * 1e3
        classes, labels = self._pool.take()
        wl_classes = self._wl_classes if self._is_scaled else classes
        self.job.rule.classes(self._canvas, (0, 0), self.job.view.hw, wl_classes)
        cells = None
        if labels is not None and self._finder is not None:
            wl_labels = self._wl_labels if self._is_scaled else labels
            cells = self._cells(self._finder, wl_classes, wl_labels)
        if self._is_scaled:
            gather(wl_classes, self._rows, self._columns, classes)
            if labels is not None:
                gather(self._wl_labels, self._rows, self._columns, labels)
        counts, focus = self._counts(cells), self._focus()
        return Seen(classes, labels, counts, cells, focus, engine_ms, intensities)

    def _infer(self) -> None:
        """Run all tiles of the plan, one after the other, into the canvas."""
        plan, pixels = self.job.plan, self._view.pixels
        if len(plan) == 1:
            self.engine.infer(pixels, self._canvas)
            return
        height, width = plan.tile_hw
        for tile in plan:
            y, x = tile.read_yx
            np.copyto(self._tile, pixels[y : y + height, x : x + width])
            self.engine.infer(self._tile, self._output)
            for piece in self._stitcher.add(tile, Output(self._output)):
                self._canvas[piece.tile.outer] = piece.kept

    def _cells(
        self, finder: CellFinder, classes: NDArray[np.uint8], labels: NDArray[np.uint32]
    ) -> NDArray[Any]:
        view = self.job.view
        count = finder.label(self._canvas[: view.hw[0], : view.hw[1]], labels)
        class_count = len(self.job.bundle.manifest.classes)
        return measure(labels, classes, count, class_count, view.l0_per_wl, view.mpp)

    def _counts(self, cells: NDArray[Any] | None) -> dict[str, int]:
        if cells is None:
            return {}
        found = np.bincount(cells["class_index"], minlength=len(self._names) + 1)
        return dict(zip(self._names, map(int, found[1:]), strict=True))

    def _focus(self) -> float:
        """Variance of the Laplacian of what the model saw: its range evens the lamp out."""
        pixels = self._view.pixels
        laplacian_sums(pixels, _GREEN, max(1, pixels.shape[0] // _FOCUS_ROWS), self._edges)
        count, total, squares = (int(value) for value in self._edges)
        return max(0.0, squares / count - (total / count) ** 2) if count else 0.0


def check_request(bundle: Bundle, options: InferOptions, has_engine: bool) -> None:
    """Refuse an engine, a precision or a tile that no frame could be segmented with.

    Parameters
    ----------
    bundle : Bundle
        The model.
    options : InferOptions
        What was asked for.
    has_engine : bool
        Whether the caller brings an engine of his own.

    Raises
    ------
    EngineError
        If no engine here runs the model at the precision.
    TilePlanError
        If a tile is no multiple of the model's stride, or too small for its halo.
    """
    if not has_engine:
        check_engine(bundle, options.engine, options.precision)
    if options.tile_px is not None:
        card = bundle.manifest
        plan_tiles((options.tile_px, options.tile_px), options.tile_px, card.halo_px, card.stride)


def _tile_px(bundle: Bundle, extent_hw: tuple[int, int]) -> int:
    """Return the tile by which least is read twice, up to 2048 px, the smaller one of equals."""
    card = bundle.manifest
    longest = -(-max(extent_hw) // card.stride) * card.stride
    least = 2 * card.halo_px + card.stride
    most = max(least, min(longest, _LARGEST_TILE_PX // card.stride * card.stride))
    if longest <= most:
        return max(least, longest)  # a smaller image gets a smaller tile
    sides = range(max(least, most // 2), most + 1, card.stride)

    def read_px(side: int) -> int:
        plan = plan_tiles(extent_hw, side, card.halo_px, card.stride)
        return len(plan) * plan.tile_hw[0] * plan.tile_hw[1]

    return min(sides, key=read_px)
