"""From a model's probabilities to one label a cell.

A seed is a peak, not too small, of the smoothed interior channel: a connected piece of foreground
in which it reaches ``seed_threshold``, parted where it falls by ``seed_depth`` between maxima. A
piece of foreground without a seed is a cell, too. Seeds grow over the foreground by watershed on
that channel, so touching cells part along its valley. What is faint throughout is no cell: less
than ``min_sure`` of it is foreground for sure. Where no valley shows, but two round parts meet in a
neck, the cell is parted by its shape (``neck_depth``). The channel is taken in 256 steps and
smoothed in integers, so that seeds are the same on every machine, and a byte a pixel is all that a
slide's run must keep of it.

Works on a window in memory; `cellseg.runtime.cells.regions` puts windows of a slide together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cellseg.runtime.cells.runs import LARGEST_PX, CellRuns
from cellseg.runtime.kernels.instances import part_pieces
from cellseg.runtime.kernels.interior import count_sure, keep_interior
from cellseg.runtime.kernels.necks import part_at_necks
from cellseg.runtime.kernels.runs import find_boxes, find_runs, pieces_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.bundles.manifest import InteriorBorder


def instances_from_probabilities(
    probabilities: NDArray[np.float32], rule: InteriorBorder, threshold: float | None = 0.5
) -> NDArray[np.uint32]:
    """Label map of the cells in one image.

    Parameters
    ----------
    probabilities : float32, shape (H, W, C)
        The model's output; channel 0 is background.
    rule : InteriorBorder
        The manifest's ``head.instances``: seed channel, smoothing, threshold, smallest areas.
    threshold : float, optional
        Foreground where ``1 - probabilities[..., 0]`` reaches it; None is 0.5.

    Returns
    -------
    uint32, shape (H, W)
        Ids 1..n in raster order of each cell's first pixel, 0 = background.
    """
    foreground = 1.0 - probabilities[..., 0] >= (0.5 if threshold is None else threshold)
    return label_cells(foreground, interior_steps(probabilities, rule), rule)[0]


def interior_steps(
    probabilities: NDArray[np.float32],
    rule: InteriorBorder,
    yx: tuple[int, int] = (0, 0),
    hw: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Return what cells are told apart by: the interior channel in 256 steps.

    Where the rule asks how sure a cell is, the last bit is 1 on pixels whose foreground is sure:
    a plane of its own would cost a run as much again.

    Parameters
    ----------
    probabilities : float32, shape (H, W, C)
        The model's output.
    rule : InteriorBorder
        The manifest's ``head.instances``.
    yx, hw : (int, int)
        Origin and size of the window that is kept; all of it by default.

    Returns
    -------
    uint8, shape hw
    """
    out = np.empty(probabilities.shape[:2] if hw is None else hw, np.uint8)
    channel, sure = rule.interior_channel, rule.sure_probability
    keep_interior(probabilities, *yx, channel, sure, rule.min_sure > 0, out)
    return out


class CellScratch:
    """Memory that `part_cells` works in, for windows of one size that follow each other.

    Parameters
    ----------
    hw : (int, int)
        Height and width of the windows.
    """

    def __init__(self, hw: tuple[int, ...]) -> None:
        self.height = np.empty(hw, np.uint8)
        most = hw[0] * ((hw[1] + 1) // 2)
        self.runs, self.piece = np.empty((most, 3), np.int32), np.empty(most, np.int32)
        self.work, self.work_heights = np.empty(0, np.int32), np.empty(0, np.uint8)
        self.parts, self.part_cell = np.empty((0, 3), np.int32), np.empty(0, np.int32)

    def reserve(self, box_px: int) -> None:
        """Make room for a piece of foreground in a box of so many pixels, its frame included."""
        if self.work_heights.size < box_px:
            self.work, self.work_heights = (
                np.empty(4 * box_px, np.int32),
                np.empty(box_px, np.uint8),
            )

    def reserve_parts(self, most: int) -> None:
        """Make room for the runs of cells, at most so many."""
        if self.part_cell.size < most:
            self.parts, self.part_cell = np.empty((most, 3), np.int32), np.empty(most, np.int32)


def part_cells(
    foreground: NDArray[np.bool_ | np.uint8],
    interior: NDArray[np.uint8],
    rule: InteriorBorder,
    scratch: CellScratch | None = None,
    box: tuple[int, int, int, int] | None = None,
) -> CellRuns:
    """Cells in a window, in raster order of their first pixels, as seeds tell them apart.

    Which of them are cells in the end, `judged_cells` says.

    Parameters
    ----------
    foreground : bool or uint8, shape (H, W)
        Not 0 where there is foreground.
    interior : uint8, shape (H, W)
        See `interior_steps`.
    rule : InteriorBorder
        The manifest's ``head.instances``.
    scratch : CellScratch, optional
        Memory to work in; by default it is allocated.
    box : (int, int, int, int), optional
        Pieces of foreground that do not reach into (y0, x0, y1, x1) are left out.
    """
    scratch = CellScratch(foreground.shape) if scratch is None else scratch
    foreground, interior = np.ascontiguousarray(foreground), np.ascontiguousarray(interior)
    run_count, piece_count = find_runs(foreground.view(np.uint8), scratch.runs, scratch.piece)
    pieces = CellRuns.by_cell(scratch.runs[:run_count], scratch.piece[:run_count])
    wanted, boxes = np.empty(piece_count, np.bool_), np.empty((piece_count, 4), np.int64)
    box = (0, 0, foreground.shape[0], foreground.shape[1]) if box is None else box
    box = pieces_in(pieces.runs, pieces.starts, box, wanted)
    sides, largest = find_boxes(pieces.runs, pieces.starts, boxes)
    scratch.reserve(largest)
    scratch.reserve_parts((sides - 2 * run_count) // 2)  # as many runs as pixels
    size = part_pieces(
        pieces.runs,
        pieces.starts,
        boxes,
        wanted,
        smoothed(interior, rule.seed_blur_px, box, scratch.height),
        round(rule.seed_threshold * 255),
        256 if rule.seed_depth == 1 else round(rule.seed_depth * 255),
        rule.min_seed_px,
        scratch.work,
        scratch.work_heights,
        scratch.parts,
        scratch.part_cell,
    )
    return CellRuns.sorted(scratch.parts[:size], scratch.part_cell[:size], rule.min_area_px)


def label_cells(
    foreground: NDArray[np.bool_ | np.uint8],
    interior: NDArray[np.uint8],
    rule: InteriorBorder,
    scratch: CellScratch | None = None,
    out: NDArray[np.uint32] | None = None,
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Label map of the cells in a window, and each cell's first pixel.

    Parameters
    ----------
    foreground, interior, rule, scratch
        As for `part_cells`.
    out : uint32, shape (H, W), optional
        Where to write the labels.

    Returns
    -------
    labels : uint32, shape (H, W)
        Ids 1..n in raster order of each cell's first pixel, 0 = background.
    first : int64, shape (n,)
        First pixels, ``y * W + x``.
    """
    cells = judged_cells(part_cells(foreground, interior, rule, scratch), interior, rule, scratch)
    return cells.painted(foreground.shape, out=out), cells.first(foreground.shape[1])


def judged_cells(
    cells: CellRuns,
    interior: NDArray[np.uint8],
    rule: InteriorBorder,
    scratch: CellScratch | None = None,
    is_cut: NDArray[np.bool_] | None = None,
) -> CellRuns:
    """Leave faint cells out and part those that have a neck: what only whole cells can tell.

    A cell of more than `LARGEST_PX` is taken as it is: not every region sees it whole, and all must
    say the same of it.

    Parameters
    ----------
    cells : CellRuns
        From `part_cells`.
    interior, rule, scratch
        What it was given.
    is_cut : bool, shape (n,), optional
        Cells that the window cuts; they are taken as they are.

    Returns
    -------
    CellRuns
        In raster order of their first pixels.
    """
    boxes, area_px = cells.boxes, cells.area_px
    is_whole = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) <= LARGEST_PX
    if is_cut is not None:
        is_whole &= ~is_cut
    is_kept = np.ones(len(cells), bool)
    if rule.min_sure > 0:
        sure_px = np.empty(len(cells), np.int64)
        count_sure(cells.runs, cells.starts, interior, sure_px)
        is_kept = ~is_whole | (sure_px >= rule.min_sure * area_px)
    kept = cells.where(is_kept)
    if rule.neck_depth == 0:
        return kept
    scratch = CellScratch((0, 0)) if scratch is None else scratch
    scratch.reserve_parts(int(area_px.sum()))  # as many runs as pixels
    return _parted(kept, boxes[is_kept], is_whole[is_kept], rule, scratch)


def _parted(
    cells: CellRuns,
    boxes: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    rule: InteriorBorder,
    scratch: CellScratch,
) -> CellRuns:
    """Part the wanted cells at their necks."""
    framed_px = np.prod(boxes[:, 2:] - boxes[:, :2] + 2, axis=1)
    scratch.reserve(int(framed_px.max(initial=0)))
    size, count = part_at_necks(
        cells.runs,
        cells.starts,
        boxes,
        wanted,
        round(rule.neck_depth * 255),
        max(1, rule.min_area_px),
        scratch.work,
        scratch.work_heights,
        scratch.parts,
        scratch.part_cell,
    )
    if count == len(cells):
        return cells
    return CellRuns.sorted(scratch.parts[:size], scratch.part_cell[:size])


def smoothed(
    interior: NDArray[np.uint8],
    blur_px: float,
    box: tuple[int, int, int, int],
    out: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Return the interior smoothed; outside of a box, y0, x0, y1, x1, it holds nothing of use."""
    if blur_px <= 0:
        return interior
    y0, x0, y1, x1 = box
    reach = math.ceil(3 * blur_px) + 1  # OpenCV's kernel for 8 bits ends at 3 sigma
    part = slice(max(0, y0 - reach), y1 + reach), slice(max(0, x0 - reach), x1 + reach)
    cv2.GaussianBlur(interior[part], (0, 0), blur_px, dst=out[part])
    return out
