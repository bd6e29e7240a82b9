"""Measurements of the cells in a window: sizes, shapes, intensities, outlines.

Definitions are those of `skimage.measure.regionprops`: perimeter with 4 neighbours, axes of the
ellipse of the same second moments, solidity by ``convex_image``. All but the perimeter take the
width and the height of a pixel as they are; the perimeter is in pixels, times the square root of
their product.

Intensities are those of the slide in 8 bits, not of what the model sees: values are mapped from 0
and the largest of their depth, not from the range that the model is given. A 16-bit slide's depth
is the number of bits that its brightest values need (4095 is the largest of a 12-bit camera).

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

from cellseg.runtime.outlines import DEFAULT_TOLERANCE_PX, Outlines, simplified
from cellseg.runtime.store import pack, unpack_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from cellseg.runtime.job import Job
    from cellseg.runtime.labels import LabelSource
    from cellseg.runtime.regions import RegionCells

__all__ = [
    "BATCH_CELLS",
    "MEASURED",
    "CellMeasurer",
    "MeasuredCells",
    "MeasuredSource",
    "even_lots",
    "intensity_range",
    "merged",
]

BATCH_CELLS = 1 << 14

MEASURED = np.dtype(
    [
        ("first", "<i8"),
        ("class", "u1"),
        ("touches_border", "?"),
        ("area_px", "<u4"),
        ("box", "<i4", 4),
        ("centroid_yx", "<f8", 2),
        ("class_probability", "<f4"),
        ("perimeter_px", "<f4"),
        ("axes", "<f4", 2),
        ("eccentricity", "<f4"),
        ("solidity", "<f4"),
        ("mean_rgb", "<f4", 3),
        ("std_rgb", "<f4", 3),
        ("stain_od", "<f4", 2),
    ]
)
"""What is kept of a cell, in pixels of the working level; ``axes``, major and minor, in microns
where the slide states its pixel size. ``first`` is its first pixel, ``box`` y0, x0, y1, x1."""

# Rows: hematoxylin, eosin, DAB; columns: red, green, blue.
_STAIN_RGB = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_KEPT_STAINS = (0, 2)
_DARKEST = 1e-6


@dataclass(frozen=True, eq=False)
class MeasuredCells:
    """Cells with their measurements and outlines.

    Parameters
    ----------
    records : `MEASURED`, shape (n,)
    outlines : Outlines
        Of the same cells.
    """

    records: NDArray[Any]
    outlines: Outlines

    def __len__(self) -> int:
        return len(self.records)

    @classmethod
    def none(cls) -> MeasuredCells:
        """Return no cells."""
        return cls(np.zeros(0, MEASURED), Outlines.none())

    @classmethod
    def joined(cls, parts: Sequence[MeasuredCells]) -> MeasuredCells:
        """Return several lots of cells as one, one after the other."""
        every = [cls.none(), *parts]
        records = np.concatenate([part.records for part in every])
        return cls(records, Outlines.joined([part.outlines for part in every]))

    @classmethod
    def sorted(cls, parts: Sequence[MeasuredCells]) -> MeasuredCells:
        """Return several lots of cells as one, in raster order of their first pixels."""
        found = cls.joined(parts)
        return found.taken(np.argsort(found.records["first"]))

    def packed_outlines(self) -> bytes:
        """Return the outlines as the store keeps them; see `from_packed`."""
        outlines = self.outlines
        sizes = np.array([len(outlines.points), len(outlines.ring_sizes)], np.int32)
        parts = (sizes, outlines.points.ravel(), outlines.ring_sizes, outlines.ring_counts)
        return pack(np.concatenate(parts))

    @classmethod
    def from_packed(cls, records: bytes, outlines: bytes) -> MeasuredCells:
        """Return what was packed; records by `cellseg.runtime.store.pack`."""
        flat = unpack_all(outlines, np.dtype(np.int32))
        points, rings = int(flat[0]), int(flat[1])
        ends = np.cumsum([2, 2 * points, rings])
        xy, sizes, counts = np.split(flat[ends[0] :], ends[1:] - ends[0])
        return cls(unpack_all(records, MEASURED), Outlines(xy.reshape(-1, 2), sizes, counts))

    def taken(self, order: NDArray[np.int64]) -> MeasuredCells:
        """Return some cells, in another order."""
        return MeasuredCells(self.records[order], self.outlines.taken(order))

    def part(self, start: int, stop: int) -> MeasuredCells:
        """Return the cells ``start .. stop``."""
        return MeasuredCells(self.records[start:stop], self.outlines.part(start, stop))


class MeasuredSource(Protocol):
    """All cells of a slide: where tables and outlines are written from."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def batches(self) -> Iterator[MeasuredCells]:
        """Yield all cells, a bounded number at a time, in the order of their numbers 1..n."""
        ...


def even_lots(lots: Iterable[MeasuredCells]) -> Iterator[MeasuredCells]:
    """Yield the same cells in lots of `BATCH_CELLS`, the last one smaller.

    Files are written lot by lot, and are not to show how large the regions were.
    """
    waiting, count = [MeasuredCells.none()], 0
    for lot in lots:
        waiting.append(lot)
        count += len(lot)
        while count >= BATCH_CELLS:
            whole = MeasuredCells.joined(waiting)
            yield whole.part(0, BATCH_CELLS)
            count -= BATCH_CELLS
            waiting = [whole.part(BATCH_CELLS, len(whole))]
    if count:
        yield MeasuredCells.joined(waiting)


def merged(parts: Sequence[MeasuredCells]) -> Iterator[MeasuredCells]:
    """Yield the cells of parts, each sorted by first pixels, as one: `BATCH_CELLS` at a time."""
    firsts = [part.records["first"] for part in parts]
    every = np.sort(np.concatenate([np.zeros(0, np.int64), *firsts]))
    starts = [0] * len(parts)
    for last in range(BATCH_CELLS, len(every) + BATCH_CELLS, BATCH_CELLS):
        end = every[min(last, len(every)) - 1]
        ends = [int(np.searchsorted(first, end, side="right")) for first in firsts]
        spans = zip(parts, starts, ends, strict=True)
        yield MeasuredCells.sorted([part.part(a, b) for part, a, b in spans if a < b])
        starts = ends


class Picture(Protocol):
    """What is seen of a slide: a `cellseg.runtime.working.WorkingView`, or a part of one."""

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
        Of outlines, see `cellseg.runtime.outlines.simplified`.
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
    ) -> CellMeasurer:
        """Return what measures the cells of a job."""
        values = intensity_range(job.slide.dtype, job.value_range)
        view = job.view.in_range(values)
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
        first = region.first[region.is_own]
        return self.measure(region.window_labels, region.own, first, region.window_yx)

    def measure(
        self,
        labels: NDArray[np.uint32],
        wanted: NDArray[np.uint32],
        first: NDArray[np.int64],
        origin_yx: tuple[int, int],
    ) -> MeasuredCells:
        """Measure cells that a window holds whole.

        Parameters
        ----------
        labels : uint32, shape (h, w)
            The window.
        wanted : uint32, shape (n,)
            Labels of the cells.
        first : int64, shape (n,)
            Their first pixels in the whole image, for the record.
        origin_yx : (int, int)
            Where the window lies at the working level.

        Returns
        -------
        MeasuredCells
            In the order of ``wanted``.
        """
        if not len(wanted):
            return MeasuredCells.none()
        from cellseg.runtime.kernels.measure import COUNTS, find_boxes, measure_shapes

        runs, starts = _runs_by_cell(labels, wanted)
        boxes = np.empty((len(wanted), 4), np.int64)
        sides, largest = find_boxes(runs, starts, boxes)
        counts = np.empty((len(wanted), len(COUNTS)), np.int64)
        points, ends = np.empty((sides, 2), np.int32), np.empty(sides // 4 + 1, np.int64)
        ring_counts, work = np.empty(len(wanted), np.int32), np.empty((2, largest), np.uint8)
        exact = self._tolerance_px == 0
        rings = measure_shapes(runs, starts, boxes, exact, work, counts, points, ends, ring_counts)
        outlines = simplified(points, ends[:rings], ring_counts, self._tolerance_px)
        records = self._records(runs, starts, boxes, counts, origin_yx)
        records["first"] = first
        return MeasuredCells(records, outlines)

    def _records(
        self,
        runs: NDArray[np.int32],
        starts: NDArray[np.int32],
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
            runs,
            starts,
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
        # In whole numbers: a difference of means would lose the small ones.
        found["std_rgb"] = np.sqrt(squares * area[:, None] - total**2) / area[:, None]
        found["stain_od"] = stains / area[:, None]
        return found


def _runs_by_cell(
    labels: NDArray[np.uint32], wanted: NDArray[np.uint32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return runs y, x0, x1 sorted by cells, and where each cell begins."""
    from cellseg.runtime.kernels.runs import find_cell_runs, sort_by_piece

    row_of = np.full(int(labels.max()) + 1, -1, np.int32)
    row_of[wanted] = np.arange(len(wanted), dtype=np.int32)
    runs, cell = np.empty((labels.size, 3), np.int32), np.empty(labels.size, np.int32)
    count = find_cell_runs(labels, row_of, runs, cell)
    starts, order = np.empty(len(wanted) + 1, np.int32), np.empty(count, np.int32)
    sort_by_piece(cell[:count], starts, order)
    return runs[order], starts


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


def _ellipses(
    sums: dict[str, NDArray[np.int64]], mpp: tuple[float, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the axes (n, 2) and eccentricities (n,) of ellipses of the same second moments."""
    x_um, y_um = mpp or (1.0, 1.0)
    # Numerators of the variances, in whole numbers.
    area = sums["area"]
    yy = (sums["sum_yy"] * area - sums["sum_y"] ** 2) / area**2 * y_um**2
    xx = (sums["sum_xx"] * area - sums["sum_x"] ** 2) / area**2 * x_um**2
    yx = (sums["sum_yx"] * area - sums["sum_y"] * sums["sum_x"]) / area**2 * (y_um * x_um)
    middle, half = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + yx**2)
    major, minor = middle + half, np.maximum(middle - half, 0)
    round_ones = major == 0
    eccentricity = np.sqrt(1 - minor / np.where(round_ones, 1, major))
    return 4 * np.sqrt(np.stack([major, minor], axis=1)), np.where(round_ones, 0, eccentricity)
