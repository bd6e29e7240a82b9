"""Cells with their measurements and outlines: lots of them, packed, merged and in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellseg.runtime.shapes.outlines import Outlines
from cellseg.runtime.store.packing import pack, unpack_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["BATCH_CELLS", "MEASURED", "MeasuredCells", "MeasuredSource", "even_lots", "merged"]

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
        """Return what was packed; records by `cellseg.runtime.store.packing.pack`."""
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
