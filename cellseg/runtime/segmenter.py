"""The library's face: one image in memory (`Segmenter`), or a slide by its path (`segment`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import CellsegError
from cellseg.runtime.bundle import Bundle
from cellseg.runtime.cell_files import CellFile
from cellseg.runtime.cell_table import CellFrame, CellTable
from cellseg.runtime.engines.shelf import EngineShelf
from cellseg.runtime.fit import bring_back
from cellseg.runtime.job import open_engine_for, prepare
from cellseg.runtime.labels import ArrayLabels
from cellseg.runtime.lazy import LazyLabels
from cellseg.runtime.measure import CellMeasurer
from cellseg.runtime.memory import TileCost, plan_memory
from cellseg.runtime.options import InferOptions
from cellseg.runtime.pipeline import Limits, run_tiles
from cellseg.runtime.slide import ArraySlide
from cellseg.runtime.stages import StageClock
from cellseg.runtime.trim import infer_seen

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from cellseg.runtime.engines import Engine
    from cellseg.runtime.engines.shelf import OpenEngine
    from cellseg.runtime.infer import RunResult
    from cellseg.runtime.job import Job
    from cellseg.runtime.options import ProgressCallback
    from cellseg.runtime.plan import Tile
    from cellseg.runtime.stitcher import Stitcher
    from cellseg.runtime.trim import Output

__all__ = ["Segmentation", "Segmenter", "SlideSegmentation", "run_canvas", "segment"]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a model sees in one image, pixel for pixel of that image."""

    classes: NDArray[np.uint8]
    """Class index, uint8 (H, W); 0 is background."""

    labels: NDArray[np.uint32] | None
    """Cells numbered from 1, uint32 (H, W); None if the model does not tell cells apart."""

    probabilities: NDArray[np.float32]
    """The network's channels, float32 (H, W, C)."""

    class_names: tuple[str, ...]
    """Name of each class index."""

    channel_names: tuple[str, ...]
    """Name of each channel of ``probabilities``."""

    measure: Callable[[], CellTable] | None = field(default=None, repr=False)
    """Measures the cells; `cells` calls it once."""

    @cached_property
    def cells(self) -> CellTable | None:
        """Table of the cells, columns by name; measured when it is asked for first.

        None if the model does not tell cells apart. ``id`` is the number in ``labels``; columns are
        those of `cellseg.runtime.cell_table.COLUMNS`.
        """
        return None if self.measure is None else self.measure()

    @property
    def cell_count(self) -> int | None:
        """Number of cells; None if they are not told apart."""
        return None if self.labels is None else int(self.labels.max(initial=0))


class Segmenter:
    """A model ready to run on images and camera frames.

    Parameters
    ----------
    bundle : Bundle
        The model.
    options : InferOptions
        ``engine``, ``precision``, ``threads``, ``threshold``, ``fit``, ``tile_px``, ``blend``,
        ``overlap`` and ``workers`` count.
    open_engine : callable, optional
        Opens an engine for a bundle, options and a tile size; for engines of your own.

    Notes
    -----
    An engine is opened for the tile size of the first image and kept, so that further images of
    that size start at once. Not to be called from two threads at the same time. A context manager.

    Examples
    --------
    >>> with Segmenter.load("nuclei") as segmenter:  # doctest: +SKIP
    ...     result = segmenter(frame, mpp=0.5)
    """

    def __init__(
        self, bundle: Bundle, options: InferOptions, open_engine: OpenEngine | None = None
    ) -> None:
        self.bundle = bundle
        self._options = options
        self._engines = EngineShelf(open_engine or open_engine_for)

    @classmethod
    def load(cls, model: str | Path = "nuclei", **options: Any) -> Segmenter:
        """Open a model by name or path.

        Parameters
        ----------
        model : str or Path
            Name of a shipped bundle, or path of a ``.cellseg`` file.
        **options
            Fields of `InferOptions`.

        Raises
        ------
        CellsegError
            If there is no such model or an option is wrong.
        """
        return cls(Bundle.open(model), infer_options(model=model, **options))

    def __call__(self, image: NDArray[Any], mpp: float | None = None) -> Segmentation:
        """Segment an image.

        Parameters
        ----------
        image : uint8, uint16 or bool, shape (H, W) or (H, W, 1 | 3 | 4)
            Grey, RGB or RGBA.
        mpp : float, optional
            Microns per pixel. The model then works at its own, and its result is brought back to
            the image's pixels. None: the image is at the model's.

        Returns
        -------
        Segmentation

        Raises
        ------
        SlideError
            If the image is of another dtype or shape.
        """
        job = prepare(ArraySlide(image, mpp), self.bundle, self._options)
        with self._engines.lend(self.bundle, self._options, job.plan.tile_hw) as engine:
            channels = run_canvas(job, engine, self._options)
        classes = job.rule.classes(channels, (0, 0), job.view.hw)
        labels = _instances(job, channels)
        card = self.bundle.manifest
        return Segmentation(
            classes=_to_image(classes, job),
            labels=None if labels is None else _to_image(labels, job),
            probabilities=_to_image_smoothly(channels, job),
            class_names=tuple(item.name for item in card.classes),
            channel_names=tuple(item.name for item in card.channels),
            measure=None if labels is None else partial(_measured, job, labels, classes),
        )

    def close(self) -> None:
        """Release the engines; the next call opens one again."""
        self._engines.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SlideSegmentation:
    """A finished run, its arrays read from the files when they are asked for.

    Attributes
    ----------
    folder : Path
        Where the files are.
    report : dict
        Content of ``run.json``.
    """

    def __init__(self, result: RunResult) -> None:
        self.folder = result.folder
        self.report = result.report
        self._files = result.files

    @property
    def classes(self) -> LazyLabels:
        """Class map at the working level; ``classes[y0:y1, x0:x1]`` reads that window."""
        return LazyLabels(self._files["classes.ome.tif"])

    @property
    def labels(self) -> LazyLabels | None:
        """Cells numbered from 1; None where they were not told apart."""
        path = self._files.get("labels.ome.tif")
        return None if path is None else LazyLabels(path)

    @property
    def overlay(self) -> Path:
        """Path of the picture of the result."""
        return self._files["overlay.jpg"]

    @property
    def cells(self) -> CellFile | None:
        """Table of cells: columns by name, each read when it is asked for; None without one."""
        for name in ("cells.parquet", "cells.csv"):
            if name in self._files:
                return CellFile(self._files[name])
        return None


def segment(
    slide: str | os.PathLike[str],
    model: str | Path = "nuclei",
    out_dir: str | os.PathLike[str] = "cellseg-out",
    progress: ProgressCallback | None = None,
    **options: Any,
) -> SlideSegmentation:
    """Segment a slide or image file; what ``cellseg-cli infer`` does.

    Parameters
    ----------
    slide : path
        Slide or image.
    model : str or Path
        Name of a shipped bundle, or path of a ``.cellseg`` file.
    out_dir : path
        The result goes to a folder of its own in it.
    progress : callable, optional
        Called about ten times a second with a `cellseg.runtime.options.Progress`.
    **options
        Further fields of `InferOptions`.

    Returns
    -------
    SlideSegmentation
        A finished run is not run again.

    Raises
    ------
    CellsegError
        See `cellseg.runtime.infer.infer_slide`.
    """
    from cellseg.runtime.infer import infer_slide

    chosen = infer_options(model=model, **options)
    return SlideSegmentation(infer_slide(slide, out_dir, chosen, progress))


def infer_options(**options: Any) -> InferOptions:
    """Return options from keyword arguments; an unknown one is an error of ours."""
    known = InferOptions.__dataclass_fields__.keys()
    unknown = sorted(options.keys() - known)
    if unknown:
        raise CellsegError(
            f"Options are {', '.join(sorted(known))}. Received: {', '.join(unknown)}."
        )
    return InferOptions(**options)


def run_canvas(job: Job, engine: Engine, options: InferOptions) -> NDArray[np.float32]:
    """Run all tiles of a small image and put the channels together.

    Parameters
    ----------
    job, engine : Job, Engine
        What is run.
    options : InferOptions
        ``workers`` and ``batch`` count.

    Returns
    -------
    float32, shape (H, W, C)
        The network's output at the working level.
    """
    height, width = job.plan.tile_hw
    if len(job.plan) == 1:  # no threads: a camera frame must not wait for them
        h, w = job.plan.extent_hw
        whole = engine.infer(job.view.read(0, 0, height, width))
        return np.ascontiguousarray(whole[:h, :w])
    channels = len(job.bundle.manifest.channels)
    cost = TileCost((height, width), 1.0, 1, channels, engine.concurrency)
    memory = plan_memory(cost, workers=options.workers, batch=options.batch)
    every = np.arange(len(job.plan), dtype=np.int64)
    steps = _CanvasSteps(job, engine, job.stitcher(every))
    limits = Limits(
        memory.workers,
        engine.concurrency,
        memory.batch,
        memory.outputs,
        (height, width, channels),
        steps.stitcher.lookahead,
    )
    run_tiles(job.plan, steps, limits, StageClock())
    return steps.canvas


class _CanvasSteps:
    """Tiles into an array in memory."""

    def __init__(self, job: Job, engine: Engine, stitcher: Stitcher) -> None:
        self._job, self._engine, self.stitcher = job, engine, stitcher
        channels = len(job.bundle.manifest.channels)
        self.canvas = np.empty((*job.plan.extent_hw, channels), np.float32)

    def read(self, tile: Tile) -> NDArray[np.uint8]:
        return self._job.view.read(*tile.read_yx, *self._job.plan.tile_hw)

    def infer(self, tile: Tile, rgb: NDArray[np.uint8], out: NDArray[np.float32]) -> Output:
        return infer_seen(self._engine, rgb, out, self._job.unseen(tile))

    def stitch(self, tile: Tile, output: Output) -> None:
        for piece in self.stitcher.add(tile, output):
            self.canvas[piece.tile.outer] = piece.kept

    def write(self, tile: Tile, result: None) -> None:
        """Do nothing: the canvas has it."""

    def commit(self) -> None:
        """Do nothing."""


def _instances(job: Job, channels: NDArray[np.float32]) -> NDArray[np.uint32] | None:
    rule = job.bundle.manifest.head.instances
    if rule is None:
        return None
    from cellseg.runtime.cells import instances_from_probabilities

    return instances_from_probabilities(channels, rule, job.rule.threshold)


def _measured(job: Job, labels: NDArray[np.uint32], classes: NDArray[np.uint8]) -> CellTable:
    from cellseg.runtime.cell_runs import CellRuns

    measurer = CellMeasurer.of(job, ArrayLabels(classes), None)
    cells = CellRuns.of_labels(labels)
    found = measurer.measure(cells, cells.first(labels.shape[1]), (0, 0))
    return CellTable.of(found, CellFrame.of(job))


def _to_image(labels: NDArray[Any], job: Job) -> NDArray[Any]:
    """Bring a label map from the working level to the image's pixels: the nearest one's."""
    if job.view.scale == 1.0:
        return labels
    base = job.slide.levels[0]
    rows = nearest(base.height_px, labels.shape[0])
    columns = nearest(base.width_px, labels.shape[1])
    return labels[np.ix_(rows, columns)]


def _to_image_smoothly(channels: NDArray[np.float32], job: Job) -> NDArray[np.float32]:
    base = job.slide.levels[0]
    return bring_back(channels, (base.height_px, base.width_px))


def nearest(count: int, extent: int) -> NDArray[np.int64]:
    """Return the working pixel under the centre of each of ``count`` image pixels."""
    centres = (np.arange(count) + 0.5) * extent / count
    return np.minimum(centres.astype(np.int64), extent - 1)
