"""Cells of a slide, region by region: one cell once, whatever region or tile it lies in.

A region has a **core**; cores tile the slide from (0, 0). Its cells are told apart in a window that
reaches a margin past the core::

    +---------------------+   window: what is looked at
    |  margin             |
    |   +-------------+   |   a cell belongs to the region whose core holds its first pixel in
    |   | core     A--|-A |   raster order: A is this region's, B the left neighbour's, and both
    | B-|-B           |   |   regions see all of both, so both give them the same first pixel
    |   +-------------+   |
    +---------------------+

A cell that reaches into the core but is cut by the window makes the window grow, up to 512 pixels
past the core. What reaches further still is kept in pieces, one a core, which are put together when
all regions are done (`cellseg.runtime.cells.joins`). First pixels are the cells' names while
regions are worked on in any order; sorted, they are numbered 1..n as in a run over the whole image.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from cellseg.runtime.cells.runs import LARGEST_PX, CellRuns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cellseg.runtime.bundles.manifest import InteriorBorder
    from cellseg.runtime.shapes.limit import Limit
    from cellseg.runtime.store.labels import LabelSource

__all__ = [
    "CORE_PX",
    "MARGIN_PX",
    "WINDOW_BYTES_PER_PX",
    "FinishedLabeller",
    "Labeller",
    "LabellerWithin",
    "RegionCells",
    "RegionGrid",
    "SeededLabeller",
    "find_cells",
]

Box: TypeAlias = "tuple[int, int, int, int]"
CORE_PX = 1024
MARGIN_PX = 128
WINDOW_BYTES_PER_PX = 32
"""What telling the cells of a window apart takes: 26 at most, see ``bench/region_memory.py``."""

_ONE_GROWS = Lock()  # windows that grew are large: one thread at a time has one


@dataclass(frozen=True)
class RegionGrid:
    """Cores that tile an image from (0, 0), row by row.

    Examples
    --------
    >>> grid = RegionGrid((1500, 2048), core_px=1024)
    >>> len(grid), grid.core(1), grid.core(2)
    (4, (0, 1024, 1024, 1024), (1024, 0, 476, 1024))
    """

    hw: tuple[int, int]
    """Height and width of the image."""

    core_px: int = CORE_PX
    """Side of a core."""

    @property
    def shape(self) -> tuple[int, int]:
        """Regions along y and along x."""
        return -(-self.hw[0] // self.core_px), -(-self.hw[1] // self.core_px)

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def core(self, index: int) -> Box:
        """Return a core as (y0, x0, height, width)."""
        row, column = divmod(index, self.shape[1])
        y, x = row * self.core_px, column * self.core_px
        return y, x, min(self.core_px, self.hw[0] - y), min(self.core_px, self.hw[1] - x)

    def touching(self, y0: int, x0: int, h: int, w: int) -> Iterator[int]:
        """Yield the regions whose cores meet a window."""
        for row in range(y0 // self.core_px, (y0 + h - 1) // self.core_px + 1):
            for column in range(x0 // self.core_px, (x0 + w - 1) // self.core_px + 1):
                yield row * self.shape[1] + column


@dataclass(frozen=True, eq=False)
class RegionCells:
    """Cells that reach into one core."""

    cells: CellRuns
    """What of each lies in the core, relative to it."""

    first: NDArray[np.int64]
    """Name of each cell: its first pixel ``y * W + x`` in the whole image, or of a piece that was
    cut its first pixel in this core, shape (n,)."""

    is_own: NDArray[np.bool_]
    """Whether the cell is whole and that pixel lies in this core, shape (n,)."""

    is_cut: NDArray[np.bool_]
    """Whether it is a piece of a cell that even the largest window cuts, shape (n,)."""

    links: NDArray[np.int64]
    """Names of such pieces, and pixels ``y * W + x`` of their cells just outside this core:
    shape (k, 2)."""

    own: CellRuns
    """The cells for which ``is_own`` holds, whole, relative to the window."""

    window_yx: tuple[int, int]
    """Where the window lies."""


class Labeller(Protocol):
    """Tells cells of any window apart, and so that they do not depend on the window."""

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        ...

    def label(self, window: Box, core: Box) -> CellRuns:
        """Return the cells of a window that reach into the core; others may be among them.

        Both are (y0, x0, height, width). Cells are in raster order of their first pixels.
        """
        ...


@dataclass(frozen=True)
class SeededLabeller:
    """Cells from the maps of a run: `cellseg.runtime.cells.parting.label_cells`."""

    classes: LabelSource
    """Class map of the slide, 0 = background."""

    interior: LabelSource
    """Interior channel of the slide, uint8; see `cellseg.runtime.cells.parting.interior_steps`."""

    rule: InteriorBorder
    """The manifest's ``head.instances``."""

    @property
    def hw(self) -> tuple[int, int]:
        """See `Labeller`."""
        return self.classes.hw

    def label(self, window: Box, core: Box) -> CellRuns:
        """See `Labeller`."""
        from cellseg.runtime.cells.parting import judged_cells, part_cells

        box = _inside(core, window)
        classes = self.classes.read(*window)
        if not classes[box[0] : box[2], box[1] : box[3]].any():
            return CellRuns.none()
        interior = self.interior.read(*window)
        cells = part_cells(classes, interior, self.rule, box=box)
        # Nobody can judge a cell that is cut: the window grows until it is whole.
        is_cut = _touches_side(cells, window, self.hw)
        return judged_cells(cells, interior, self.rule, is_cut=is_cut)


@dataclass(frozen=True)
class LabellerWithin:
    """Of another labeller's cells those that belong to what is wanted: their centroids do.

    They are whole, as far as its reach. A cell of more than `LARGEST_PX` is taken wherever
    it lies: not every window sees it whole, and all must say the same of it.
    """

    labeller: Labeller
    """Tells cells apart within the reach."""

    limit: Limit
    """Regions of interest, or a mask."""

    @property
    def hw(self) -> tuple[int, int]:
        """See `Labeller`."""
        return self.labeller.hw

    def label(self, window: Box, core: Box) -> CellRuns:
        """See `Labeller`."""
        cells = self.labeller.label(window, core)
        is_cut, boxes = _touches_side(cells, window, self.hw), cells.boxes
        is_large = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) > LARGEST_PX
        y, x = (cells.centroid_yx + np.array(window[:2])).T
        return cells.where(is_cut | is_large | self.limit.has(y, x))


@dataclass(frozen=True)
class FinishedLabeller:
    """Cells from a map in which they have their numbers."""

    labels: LabelSource
    """Number of the cell at every pixel."""

    @property
    def hw(self) -> tuple[int, int]:
        """See `Labeller`."""
        return self.labels.hw

    def label(self, window: Box, core: Box) -> CellRuns:
        """See `Labeller`."""
        found = self.labels.read(*window).astype(np.uint32)
        is_cell = found > 0
        # Numbers of a window lie close together, but may begin in the millions.
        found[is_cell] -= found[is_cell].min(initial=2**32 - 1) - 1
        return CellRuns.of_labels(found)


def find_cells(labeller: Labeller, core: Box, margin_px: int = MARGIN_PX) -> RegionCells:
    """Tell the cells of one core apart.

    Parameters
    ----------
    labeller : Labeller
        Tells those of a window apart.
    core : (int, int, int, int)
        y0, x0, height, width.
    margin_px : int
        First margin; doubled until no cell of the core is cut, at most to 512.

    Returns
    -------
    RegionCells
    """
    first_margin_px = margin_px
    with ExitStack() as growing:
        while True:
            window = _grown(core, margin_px, labeller.hw)
            cells = labeller.label(window, core)
            inside = cells.cropped(_inside(core, window))
            cut = (inside.counts > 0) & _touches_side(cells, window, labeller.hw)
            if not cut.any() or margin_px >= LARGEST_PX:
                break
            if margin_px == first_margin_px:
                growing.enter_context(_ONE_GROWS)
            margin_px *= 2
        return _named(cells, inside, cut, window, core, labeller.hw)


def _grown(core: Box, margin_px: int, hw: tuple[int, int]) -> Box:
    y0, x0, h, w = core
    top, left = max(0, y0 - margin_px), max(0, x0 - margin_px)
    bottom, right = min(hw[0], y0 + h + margin_px), min(hw[1], x0 + w + margin_px)
    return top, left, bottom - top, right - left


def _inside(core: Box, window: Box) -> Box:
    """Return where a core lies in a window: y0, x0, y1, x1."""
    y0, x0 = core[0] - window[0], core[1] - window[1]
    return y0, x0, y0 + core[2], x0 + core[3]


def _touches_side(cells: CellRuns, window: Box, hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which cells lie on a side of the window that is no border of the image."""
    y0, x0, h, w = window
    top, left, bottom, right = cells.boxes.T
    found = ((top == 0) & (y0 > 0)) | ((left == 0) & (x0 > 0))
    found |= ((bottom == h) & (y0 + h < hw[0])) | ((right == w) & (x0 + w < hw[1]))
    return np.asarray(found)


def _named(
    cells: CellRuns,
    inside: CellRuns,
    cut: NDArray[np.bool_],
    window: Box,
    core: Box,
    hw: tuple[int, int],
) -> RegionCells:
    """Name the core's cells by their place in the whole image."""
    y0, x0, h, w = core
    present = np.flatnonzero(inside.counts)
    of_core, is_cut = inside.taken(present), cut[present]
    y, x = (cells.runs[cells.starts[present], :2] + np.array(window[:2])).T
    piece_y, piece_x = (of_core.runs[of_core.starts[:-1], :2] + np.array(core[:2])).T
    is_own = ~is_cut & (y0 <= y) & (y < y0 + h) & (x0 <= x) & (x < x0 + w)
    name = np.where(is_cut, piece_y * hw[1] + piece_x, y * hw[1] + x)
    links: NDArray[np.int64] = np.zeros((0, 2), np.int64)
    if is_cut.any():
        names = np.full(len(cells) + 1, -1, np.int64)
        names[present[is_cut] + 1] = name[is_cut]
        links = _links(cells.painted(window[2:]), names, window, core, hw)
    own = cells.taken(present[is_own])
    return RegionCells(of_core, name, is_own, is_cut, links, own, window[:2])


def _links(
    labels: NDArray[np.uint32],
    names: NDArray[np.int64],
    window: Box,
    core: Box,
    hw: tuple[int, int],
) -> NDArray[np.int64]:
    """Find where pieces that were cut go on beyond the core: one pixel a run is enough."""
    y0, x0, h, w = core
    top, left = y0 - window[0], x0 - window[1]
    found = [np.zeros((0, 2), np.int64)]
    for inner, outer, is_row in (
        (top, top - 1, True),
        (top + h - 1, top + h, True),
        (left, left - 1, False),
        (left + w - 1, left + w, False),
    ):
        if not 0 <= outer + window[0 if is_row else 1] < hw[0 if is_row else 1]:
            continue
        lines = labels if is_row else labels.T
        along = slice(left, left + w) if is_row else slice(top, top + h)
        a, b = lines[inner, along], lines[outer, along]
        goes_on = (a == b) & (names[a] >= 0)
        begins = np.flatnonzero(
            goes_on & ~np.concatenate(([False], goes_on[:-1] & (a[1:] == a[:-1])))
        )
        across = np.full(len(begins), outer)
        y, x = (across, begins + left) if is_row else (begins + top, across)
        pixels = (y + window[0]) * hw[1] + x + window[1]
        found.append(np.stack([names[a[begins]], pixels], axis=1))
    return np.concatenate(found)
