"""The library's face: one image in memory (`Segmenter`), or a slide by its path (`segment`)."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import CellsegError
from cellseg.runtime.bundles.bundle import Bundle
from cellseg.runtime.cells.measure import CellMeasurer
from cellseg.runtime.cells.table import CellFrame, CellTable
from cellseg.runtime.jobs.job import open_engine_for, prepare
from cellseg.runtime.jobs.options import InferOptions
from cellseg.runtime.run.canvas import run_canvas
from cellseg.runtime.run.engine_shelf import EngineShelf
from cellseg.runtime.segmentation import Segmentation, SlideSegmentation
from cellseg.runtime.slides.slide import ArraySlide
from cellseg.runtime.store.labels import ArrayLabels
from cellseg.runtime.view.doubts import small_cells_doubt
from cellseg.runtime.view.fit import bring_back

if TYPE_CHECKING:
    import os
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.jobs.options import ProgressCallback
    from cellseg.runtime.run.engine_shelf import OpenEngine

__all__ = [
    "Segmentation",
    "Segmenter",
    "SlideSegmentation",
    "infer_options",
    "nearest",
    "refuse_parts_of_files",
    "segment",
]


_LOG = logging.getLogger(__name__)
_STRIP_ROWS = 512


class Segmenter:
    """A model ready to run on images and camera frames.

    Parameters
    ----------
    bundle : Bundle
        The model.
    options : InferOptions
        ``engine``, ``precision``, ``threads``, ``threshold``, ``mpp``, ``fit``, ``tile_px``,
        ``blend``, ``overlap`` and ``workers`` count.
    open_engine : callable, optional
        Opens an engine for a bundle, options and a tile size; for engines of your own.

    Raises
    ------
    CellsegError
        If an option chooses a part of a file: ``channel``, ``roi``, or ``tissue_mask`` by a path.

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
        refuse_parts_of_files(options)
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
            Grey, RGB or RGBA. It may be written to again as soon as this returns.
        mpp : float, optional
            Microns per pixel. The model then works at its own, and its result is brought back to
            the image's pixels. None: the option ``mpp``; without one the image is at the model's.

        Returns
        -------
        Segmentation

        Raises
        ------
        SlideError
            If the image is of another dtype or shape.
        """
        options = self._options
        mpp = options.mpp if mpp is None else mpp
        # Cells are measured when they are asked for: a camera's buffer holds the next frame then.
        slide = ArraySlide(image, mpp, copy=self.bundle.manifest.head.instances is not None)
        job = prepare(slide, self.bundle, options)
        with self._engines.lend(self.bundle, options, job.plan.tile_hw) as engine:
            channels = run_canvas(job, engine, options)
        classes = job.rule.classes(channels, (0, 0), job.view.hw)
        labels = _instances(job, channels)
        card = self.bundle.manifest
        return Segmentation(
            classes=_to_image(classes, job),
            labels=None if labels is None else _to_image(labels, job),
            probabilities=_to_image_smoothly(channels, job),
            class_names=tuple(item.name for item in card.classes),
            channel_names=tuple(item.name for item in card.channels),
            doubts=job.doubts if labels is None else (*job.doubts, *_small_doubts(job, labels)),
            measure=None if labels is None else partial(_measured, job, labels, classes, channels),
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
        Called about ten times a second with a `cellseg.runtime.jobs.options.Progress`.
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
    if isinstance(options.get("write"), str):  # as it is written on the command line
        options["write"] = tuple(name.strip() for name in options["write"].split(","))
    return InferOptions(**options)


def refuse_parts_of_files(options: InferOptions) -> None:
    """Refuse what chooses a part of a file: an array is run as it is, and that went unheard.

    Raises
    ------
    CellsegError
        If ``channel``, ``roi``, or ``tissue_mask`` by a path is among the options.
    """
    parts = (options.channel, options.roi, options.tissue_mask)
    for name, value in zip(("channel", "roi", "tissue_mask"), parts, strict=True):
        if value is not None and not isinstance(value, bool):
            raise CellsegError(
                f"An image in memory is run whole, as it is. Received: {name}={str(value)!r}.",
                hint="Choose a channel or cut the array yourself; cellseg.segment(path) takes it.",
            )


def _instances(job: Job, channels: NDArray[np.float32]) -> NDArray[np.uint32] | None:
    rule = job.cell_rule
    if rule is None:
        return None
    from cellseg.runtime.cells.parting import instances_from_probabilities

    return instances_from_probabilities(channels, rule, job.rule.threshold)


def _small_doubts(job: Job, labels: NDArray[np.uint32]) -> list[str]:
    """Say that cells are smaller than the model tells apart, from the map of the working level."""
    areas_px = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    for top in range(0, len(labels), _STRIP_ROWS):  # bincount copies what it counts
        strip = labels[top : top + _STRIP_ROWS]
        areas_px += np.bincount(strip.ravel(), minlength=areas_px.size)
    doubt = small_cells_doubt(job.view, job.bundle.manifest, areas_px[1:])
    if doubt is None:
        return []
    _LOG.warning("%s", doubt)
    return [doubt]


def _measured(
    job: Job,
    labels: NDArray[np.uint32],
    classes: NDArray[np.uint8],
    channels: NDArray[np.float32],
) -> CellTable:
    from cellseg.runtime.cells.runs import CellRuns

    foreground = job.rule.foreground(channels, (0, 0), job.view.hw)
    measurer = CellMeasurer.of(job, ArrayLabels(classes), ArrayLabels(foreground))
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
