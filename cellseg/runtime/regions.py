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
all regions are done (`cellseg.runtime.joins`). First pixels are the cells' names while regions are
worked on in any order; sorted, they are numbered 1..n as in a run over the whole image.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cellseg.runtime.labels import LabelSource
    from cellseg.runtime.manifest import InteriorBorder

__all__ = [
    "CORE_PX",
    "GROWN_BYTES",
    "MARGIN_PX",
    "FinishedLabeller",
    "Labeller",
    "RegionCells",
    "RegionGrid",
    "SeededLabeller",
    "find_cells",
    "label_dtype",
]

Box: TypeAlias = "tuple[int, int, int, int]"
CORE_PX = 1024
MARGIN_PX = 128
_LARGEST_MARGIN_PX = 512
GROWN_BYTES = 200 << 20
"""What a window of the largest margin holds; one thread at a time has a window that grew."""

_ONE_GROWS = Lock()


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

    labels: NDArray[np.uint16 | np.uint32]
    """Local ids 1..n of the core's pixels, shape (h, w); 0 = background; see `label_dtype`."""

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

    window_labels: NDArray[np.uint32]
    """Ids of the window's own, shape (wh, ww)."""

    window_yx: tuple[int, int]
    """Where the window lies."""

    own: NDArray[np.uint32]
    """Ids in ``window_labels`` of the cells for which ``is_own`` holds, in the same order."""


class Labeller(Protocol):
    """Tells cells of any window apart, and so that they do not depend on the window."""

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        ...

    def is_blank(self, y0: int, x0: int, h: int, w: int) -> bool:
        """Tell whether a window holds no cell."""
        ...

    def label(self, window: Box, core: Box) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Return the labels 1..n of a window and their first pixels in it, ``y * w + x``.

        Cells that do not reach into the core may be left out. Both are (y0, x0, height, width).
        """
        ...


@dataclass(frozen=True)
class SeededLabeller:
    """Cells from the maps of a run: `cellseg.runtime.cells.label_cells`."""

    classes: LabelSource
    """Class map of the slide, 0 = background."""

    interior: LabelSource
    """Interior channel of the slide, uint8; see `cellseg.runtime.cells.interior_steps`."""

    rule: InteriorBorder
    """The manifest's ``head.instances``."""

    @property
    def hw(self) -> tuple[int, int]:
        """See `Labeller`."""
        return self.classes.hw

    def is_blank(self, y0: int, x0: int, h: int, w: int) -> bool:
        """See `Labeller`."""
        return not self.classes.read(y0, x0, h, w).any()

    def label(self, window: Box, core: Box) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """See `Labeller`."""
        from cellseg.runtime.cells import label_cells

        (y0, x0), (top, left, h, w) = window[:2], core
        box = top - y0, left - x0, top - y0 + h, left - x0 + w
        classes, interior = self.classes.read(*window), self.interior.read(*window)
        return label_cells(classes, interior, self.rule, box=box)


@dataclass(frozen=True)
class FinishedLabeller:
    """Cells from a map in which they have their numbers."""

    labels: LabelSource
    """Number of the cell at every pixel."""

    @property
    def hw(self) -> tuple[int, int]:
        """See `Labeller`."""
        return self.labels.hw

    def is_blank(self, y0: int, x0: int, h: int, w: int) -> bool:
        """See `Labeller`."""
        return not self.labels.read(y0, x0, h, w).any()

    def label(self, window: Box, core: Box) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """See `Labeller`."""
        from cellseg.runtime.cells import renumber

        found = self.labels.read(*window).astype(np.uint32)
        is_cell = found > 0
        # Numbers of a window lie close together, but may begin in the millions.
        found[is_cell] -= found[is_cell].min(initial=2**32 - 1) - 1
        return renumber(found)


def label_dtype(count: int) -> type[np.uint16 | np.uint32]:
    """Return what so many labels of a region fit in: fewer bytes are packed sooner."""
    return np.uint16 if count < 1 << 16 else np.uint32


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
    (y0, x0, h, w), first_margin_px = core, margin_px
    if labeller.is_blank(*core):
        return _no_cells(core)
    from cellseg.runtime.kernels.instances import mark_present

    with ExitStack() as growing:
        while True:
            window = _grown(core, margin_px, labeller.hw)
            labels, first = labeller.label(window, core)
            inside = labels[y0 - window[0] :, x0 - window[1] :][:h, :w]
            present = np.zeros(len(first) + 1, np.bool_)
            mark_present(inside, present)
            present[0] = False
            cut = present & _touches_border(labels, window, labeller.hw, len(first))
            if not cut.any() or margin_px >= _LARGEST_MARGIN_PX:
                break
            if margin_px == first_margin_px:
                growing.enter_context(_ONE_GROWS)
            margin_px *= 2
        return _local(labels, first, present, cut, window, core, labeller.hw)


def _grown(core: Box, margin_px: int, hw: tuple[int, int]) -> Box:
    y0, x0, h, w = core
    top, left = max(0, y0 - margin_px), max(0, x0 - margin_px)
    bottom, right = min(hw[0], y0 + h + margin_px), min(hw[1], x0 + w + margin_px)
    return top, left, bottom - top, right - left


def _touches_border(
    labels: NDArray[np.uint32], window: Box, hw: tuple[int, int], count: int
) -> NDArray[np.bool_]:
    """Which labels 0..count lie on a side of the window that is no border of the image."""
    y0, x0, h, w = window
    sides = [
        (y0 > 0, labels[0]),
        (y0 + h < hw[0], labels[-1]),
        (x0 > 0, labels[:, 0]),
        (x0 + w < hw[1], labels[:, -1]),
    ]
    found = np.zeros(count + 1, bool)
    for is_inner, side in sides:
        if is_inner:
            found[side] = True
    return found


def _no_cells(core: Box) -> RegionCells:
    blank, none, false = (
        np.zeros(core[2:], label_dtype(0)),
        np.zeros(0, np.uint32),
        np.zeros(0, bool),
    )
    links = np.zeros((0, 2), np.int64)
    first = np.zeros(0, np.int64)
    window = np.zeros((0, 0), np.uint32)
    return RegionCells(blank, first, false, false, links, window, core[:2], none)


def _local(
    labels: NDArray[np.uint32],
    first: NDArray[np.int64],
    present: NDArray[np.bool_],
    cut: NDArray[np.bool_],
    window: Box,
    core: Box,
    hw: tuple[int, int],
) -> RegionCells:
    """Give the core's cells ids 1..n, and name them by their place in the whole image."""
    from cellseg.runtime.kernels.frame import look_up

    table = np.where(present, np.cumsum(present), 0).astype(np.uint32)
    y0, x0, h, w = core
    top, left = y0 - window[0], x0 - window[1]
    inside = labels[top : top + h, left : left + w]
    first, is_cut = first[present[1:]].copy(), cut[present]
    for place in np.flatnonzero(is_cut):
        pixel = int(np.argmax(inside == np.flatnonzero(present)[place]))
        first[place] = (top + pixel // w) * window[3] + left + pixel % w
    y, x = np.divmod(first, window[3])
    y, x = y + window[0], x + window[1]
    is_own = ~is_cut & (y0 <= y) & (y < y0 + h) & (x0 <= x) & (x < x0 + w)
    own = np.flatnonzero(present)[is_own].astype(np.uint32)
    name = y * hw[1] + x
    names = np.zeros(len(present), np.int64)
    names[present] = name
    links = _links(labels, np.where(cut, names, -1), window, core, hw)
    local = np.empty(inside.shape, label_dtype(len(first)))
    look_up(inside, table, local)
    return RegionCells(local, name, is_own, is_cut, links, labels, window[:2], own)


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
