"""Measurements of the cells in a window: sizes, shapes, intensities, outlines.

Definitions are those of `skimage.measure.regionprops`: perimeter with 4 neighbours, axes of the
ellipse of the same second moments, solidity by ``convex_image``. All but the perimeter take the
width and the height of a pixel as they are; the perimeter is in pixels, times the square root of
their product.

Intensities are those of the slide in 8 bits, not of what the model sees: values are mapped from 0
and the largest of their depth, not from the range that the model is given. A 16-bit slide's depth
is the number of bits that the upper end of that range needs (4095 is the largest of a 12-bit
camera), so that no hot pixel makes all others dark; what is brighter counts as the largest.

Stains are told apart as by `skimage.color.rgb2hed` [1]_, but in optical density to the base of 10:
scikit-image divides that by 6.

References
----------
.. [1] Ruifrok and Johnston, "Quantification of histochemical staining by color deconvolution",
   Anal. Quant. Cytol. Histol. 23, 2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellseg.runtime.cells.measured import MEASURED, MeasuredCells
from cellseg.runtime.shapes.outlines import DEFAULT_TOLERANCE_PX, simplified
from cellseg.runtime.view.normalize import Intensities

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cellseg.runtime.cells.regions import RegionCells
    from cellseg.runtime.cells.runs import CellRuns
    from cellseg.runtime.jobs.job import Job
    from cellseg.runtime.store.labels import LabelSource
    from cellseg.runtime.view.working import WorkingView

__all__ = ["CellMeasurer", "Picture", "intensity_range", "measured_view"]

# Rows: hematoxylin, eosin, DAB; columns: red, green, blue.
_STAIN_RGB = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_KEPT_STAINS = (0, 2)
_DARKEST = 1e-6


class Picture(Protocol):
    """What is seen of a slide: a `cellseg.runtime.view.working.WorkingView`, or a part of one."""

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""
        ...

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Microns per pixel, (x, y)."""
        ...

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[np.uint8]:
        """Return a window, uint8 (h, w, 3)."""
        ...


@dataclass(frozen=True)
class _Reduced:
    hw: tuple[int, int]
    mpp: tuple[float, float] | None
    read: Callable[[int, int, int, int], NDArray[np.uint8]]


class CellMeasurer:
    """Measures cells of one slide, window by window; may be used by several threads.

    Parameters
    ----------
    view : Picture
        The slide in 8 bits.
    classes : LabelSource
        Class map.
    class_count : int
        Classes, background included.
    probability : LabelSource, optional
        Probability of foreground, uint8: 255 is certain. Becomes a cell's class probability where
        there is one class besides the background.
    tolerance_px : float
        Of outlines, see `cellseg.runtime.shapes.outlines.simplified`.
    """

    def __init__(
        self,
        view: Picture,
        classes: LabelSource,
        class_count: int,
        probability: LabelSource | None = None,
        tolerance_px: float = DEFAULT_TOLERANCE_PX,
    ) -> None:
        self._view, self._classes, self._class_count = view, classes, class_count
        self._probability = probability if class_count == 2 else None
        self._tolerance_px = tolerance_px
        self._density = stain_density()

    @classmethod
    def of(
        cls,
        job: Job,
        classes: LabelSource,
        probability: LabelSource | None,
        tolerance_px: float = DEFAULT_TOLERANCE_PX,
        picture: Picture | None = None,
    ) -> CellMeasurer:
        """Return what measures the cells of a job, in its `measured_view` or a copy of that."""
        view = picture or measured_view(job)
        return cls(view, classes, len(job.class_names), probability, tolerance_px)

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the slide at the working level."""
        return self._view.hw

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Microns per pixel of the working level, (x, y)."""
        return self._view.mpp

    def reduced(self, every: Callable[[Any], Any], step: int) -> CellMeasurer:
        """Return what measures on every ``step``-th pixel of a part of the slide.

        Parameters
        ----------
        every : callable
            Turns a map or picture into one of such pixels, with ``hw`` and ``read``.
        step : int
        """
        mpp = None if self.mpp is None else (self.mpp[0] * step, self.mpp[1] * step)
        picture = every(self._view)
        return CellMeasurer(
            _Reduced(picture.hw, mpp, picture.read),
            every(self._classes),
            self._class_count,
            None if self._probability is None else every(self._probability),
            self._tolerance_px,
        )

    def measure_own(self, region: RegionCells) -> MeasuredCells:
        """Measure the cells that belong to a region."""
        return self.measure(region.own, region.first[region.is_own], region.window_yx)

    def measure(
        self, cells: CellRuns, first: NDArray[np.int64], origin_yx: tuple[int, int]
    ) -> MeasuredCells:
        """Measure cells that a window holds whole.

        Parameters
        ----------
        cells : CellRuns
            Of the window.
        first : int64, shape (n,)
            Their first pixels in the whole image, for the record.
        origin_yx : (int, int)
            Where the window lies at the working level.

        Returns
        -------
        MeasuredCells
            In the same order.
        """
        if not len(cells):
            return MeasuredCells.none()
        from cellseg.runtime.kernels.measure import COUNTS, measure_shapes
        from cellseg.runtime.kernels.runs import find_boxes

        runs, starts, count = cells.runs, cells.starts, len(cells)
        boxes = np.empty((count, 4), np.int64)
        sides, largest = find_boxes(runs, starts, boxes)
        counts = np.empty((count, len(COUNTS)), np.int64)
        points, ends = np.empty((sides, 2), np.int32), np.empty(sides // 4 + 1, np.int64)
        ring_counts, work = np.empty(count, np.int32), np.empty((2, largest), np.uint8)
        exact = self._tolerance_px == 0
        rings = measure_shapes(runs, starts, boxes, exact, work, counts, points, ends, ring_counts)
        outlines = simplified(points, ends[:rings], ring_counts, self._tolerance_px)
        records = self._records(cells, boxes, counts, origin_yx)
        records["first"] = first
        return MeasuredCells(records, outlines)

    def _records(
        self,
        cells: CellRuns,
        boxes: NDArray[np.int64],
        counts: NDArray[np.int64],
        origin_yx: tuple[int, int],
    ) -> NDArray[Any]:
        from cellseg.runtime.kernels.measure import COUNTS, sum_values

        (top, left), (bottom, right) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        place = (int(origin_yx[0] + top), int(origin_yx[1] + left))
        window = (*place, int(bottom - top), int(right - left))
        stains = np.empty((len(boxes), len(_KEPT_STAINS)))
        class_px = np.empty((len(boxes), self._class_count), np.int64)
        probability = self._probability
        sum_values(
            cells.runs,
            cells.starts,
            (int(top), int(left)),
            np.ascontiguousarray(self._view.read(*window)),
            np.ascontiguousarray(self._classes.read(*window)),
            np.zeros((0, 0), np.uint8)
            if probability is None
            else np.ascontiguousarray(probability.read(*window)),
            self._density,
            counts,
            stains,
            class_px,
        )
        boxes = boxes + np.array([*origin_yx, *origin_yx])
        sums = dict(zip(COUNTS, counts.T, strict=True))
        return self._from_sums(sums, stains, class_px, boxes)

    def _from_sums(
        self,
        sums: dict[str, NDArray[np.int64]],
        stains: NDArray[np.float64],
        class_px: NDArray[np.int64],
        boxes: NDArray[np.int64],
    ) -> NDArray[Any]:
        """Make records of sums over pixels."""
        area = sums["area"]
        found = np.zeros(len(area), MEASURED)
        found["class"] = class_px[:, 1:].argmax(axis=1) + 1
        found["area_px"] = area
        found["box"] = boxes
        height, width = self._view.hw
        found["touches_border"] = (boxes[:, :2].min(axis=1) == 0) | (
            (boxes[:, 2] == height) | (boxes[:, 3] == width)
        )
        centre = np.stack([sums["sum_y"], sums["sum_x"]], axis=1) / area[:, None]
        found["centroid_yx"] = centre + boxes[:, :2] + 0.5
        found["class_probability"] = np.nan
        if self._probability is not None:
            found["class_probability"] = sums["probability"] / area / 255
        root = np.sqrt(2.0)
        found["perimeter_px"] = (
            sums["straight"] + root * sums["diagonal"] + (1 + root) / 2 * sums["mixed"]
        )
        found["solidity"] = area / sums["hull"]
        found["axes"], found["eccentricity"] = _ellipses(sums, self._view.mpp)
        total = np.stack([sums[name] for name in ("red", "green", "blue")], axis=1)
        squares = np.stack([sums[f"{name}_2"] for name in ("red", "green", "blue")], axis=1)
        found["mean_rgb"] = total / area[:, None]
        found["std_rgb"] = np.sqrt(_spread(area[:, None], squares, total, total)) / area[:, None]
        found["stain_od"] = stains / area[:, None]
        return found


def measured_view(job: Job) -> WorkingView:
    """Return a job's slide as its cells are measured."""
    return job.view.in_range(Intensities(intensity_range(job.slide.dtype, job.seen.value_range)))


def intensity_range(dtype: np.dtype[Any], seen: tuple[float, float]) -> tuple[float, float]:
    """Return the values of a slide that are measured as 0 and 255.

    Parameters
    ----------
    dtype : dtype
        The slide's.
    seen : (float, float)
        Range that the model is given, measured on the slide.

    Examples
    --------
    >>> intensity_range(np.dtype(np.uint8), (10, 200))
    (0.0, 255.0)
    >>> intensity_range(np.dtype(np.uint16), (90, 3100))
    (0.0, 4095.0)
    """
    deepest = 8 * dtype.itemsize
    bits = min(deepest, max(8, int(np.ceil(seen[1])).bit_length()))
    return 0.0, float((1 << bits) - 1)


def stain_density() -> NDArray[np.float64]:
    """Tabulate what each value of each channel adds to the density of a stain, (stains, 3, 256)."""
    density = -np.log10(np.maximum(np.arange(256) / 255, _DARKEST))
    unmixed = np.linalg.inv(_STAIN_RGB)
    return np.stack([unmixed[:, stain, None] * density for stain in _KEPT_STAINS])


def _spread(
    count: NDArray[np.int64],
    sum_ab: NDArray[np.int64],
    sum_a: NDArray[np.int64],
    sum_b: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return ``count * sum_ab - sum_a * sum_b``: covariances of two values, times count squared.

    In whole numbers, as a difference of means would lose the small ones, where 64 bits hold it.
    """
    rough = (sum_ab / count - (sum_a / count) * (sum_b / count)) * (count * 1.0) ** 2
    # The products may overflow: what wraps around cancels, as long as the difference does not.
    exact = sum_ab * count - sum_a * sum_b
    return np.where(np.abs(rough) < 2.0**62, exact, rough)


def _ellipses(
    sums: dict[str, NDArray[np.int64]], mpp: tuple[float, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the axes (n, 2) and eccentricities (n,) of ellipses of the same second moments."""
    x_um, y_um = mpp or (1.0, 1.0)
    area, y, x = sums["area"], sums["sum_y"], sums["sum_x"]
    yy = _spread(area, sums["sum_yy"], y, y) / area**2 * y_um**2
    xx = _spread(area, sums["sum_xx"], x, x) / area**2 * x_um**2
    yx = _spread(area, sums["sum_yx"], y, x) / area**2 * (y_um * x_um)
    middle, half = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + yx**2)
    major, minor = middle + half, np.maximum(middle - half, 0)
    round_ones = major == 0
    eccentricity = np.sqrt(1 - minor / np.where(round_ones, 1, major))
    return 4 * np.sqrt(np.stack([major, minor], axis=1)), np.where(round_ones, 0, eccentricity)
