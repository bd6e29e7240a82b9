"""From a model's probabilities to one label a cell.

A seed is a peak, not too small, of the smoothed interior channel: a connected piece of foreground
in which it reaches ``seed_threshold``, parted where it falls by ``seed_depth`` between maxima. A
piece of foreground without a seed is a cell, too. Seeds grow over the foreground by watershed on
that channel, so touching cells part along its valley. The channel is taken in 256 steps and
smoothed in integers, so that seeds are the same on every machine, and a byte a pixel is all that a
slide's run must keep of it.

Works on a window in memory; `cellseg.runtime.regions` puts windows of a slide together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cellseg.runtime.kernels.instances import number_cells, part_pieces, renumber_labels
from cellseg.runtime.kernels.interior import keep_interior
from cellseg.runtime.kernels.runs import find_runs, pieces_in, sort_by_piece
from cellseg.runtime.kernels.watershed import SEA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.manifest import InteriorBorder


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


def interior_steps(probabilities: NDArray[np.float32], rule: InteriorBorder) -> NDArray[np.uint8]:
    """Return what cells are told apart by: the interior channel in 256 steps, uint8 (H, W).

    Where the rule asks how sure a cell is, the last bit is 1 on pixels whose foreground is sure:
    a plane of its own would cost a run as much again.
    """
    out = np.empty(probabilities.shape[:2], np.uint8)
    sure = np.float32(rule.sure_probability)
    keep_interior(probabilities, rule.interior_channel, sure, rule.min_sure > 0, out)
    return out


class CellScratch:
    """Memory that `label_cells` works in, for windows of one size that follow each other.

    Parameters
    ----------
    hw : (int, int)
        Height and width of the windows.
    """

    def __init__(self, hw: tuple[int, int]) -> None:
        framed_hw = hw[0] + 2, hw[1] + 2
        self.framed, self.height = np.empty(framed_hw, np.int32), np.empty(framed_hw, np.uint8)
        self.work = np.empty(3 * framed_hw[0] * framed_hw[1], np.int32)
        most = hw[0] * ((hw[1] + 1) // 2)
        self.runs, self.piece = np.empty((most, 3), np.int32), np.empty(most, np.int32)


def label_cells(
    foreground: NDArray[np.bool_ | np.uint8],
    interior: NDArray[np.uint8],
    rule: InteriorBorder,
    scratch: CellScratch | None = None,
    out: NDArray[np.uint32] | None = None,
    box: tuple[int, int, int, int] | None = None,
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Label map of the cells in a window, and each cell's first pixel.

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
    out : uint32, shape (H, W), optional
        Where to write the labels.
    box : (int, int, int, int), optional
        Pieces of foreground that do not reach into (y0, x0, y1, x1) are left out.

    Returns
    -------
    labels : uint32, shape (H, W)
        Ids 1..n in raster order of each cell's first pixel, 0 = background.
    first : int64, shape (n,)
        First pixels, ``y * W + x``.
    """
    scratch = CellScratch(foreground.shape) if scratch is None else scratch
    labels = np.empty(foreground.shape, np.uint32) if out is None else out
    foreground, interior = np.ascontiguousarray(foreground), np.ascontiguousarray(interior)
    run_count, piece_count = find_runs(foreground.view(np.uint8), scratch.runs, scratch.piece)
    runs, piece = scratch.runs[:run_count], scratch.piece[:run_count]
    starts, order = np.empty(piece_count + 1, np.int32), np.empty(run_count, np.int32)
    sort_by_piece(piece, starts, order)
    sorted_runs, wanted = runs[order], np.empty(piece_count, np.bool_)
    box = (0, 0, *foreground.shape) if box is None else box
    box = pieces_in(sorted_runs, starts, box, wanted)
    fill_frame(interior, rule.seed_blur_px, box, scratch)
    parts = np.empty(piece_count, np.int32)
    part_pieces(
        sorted_runs,
        starts,
        wanted,
        scratch.height,
        round(rule.seed_threshold * 255),
        256 if rule.seed_depth == 1 else round(rule.seed_depth * 255),
        rule.min_seed_px,
        scratch.framed,
        parts,
        scratch.work,
    )
    first = np.empty(int(parts.sum()), np.int64)
    kept = number_cells(runs, piece, parts, scratch.framed, rule.min_area_px, labels, first)
    return labels, first[:kept]


def fill_frame(
    interior: NDArray[np.uint8],
    blur_px: float,
    box: tuple[int, int, int, int],
    scratch: CellScratch,
) -> None:
    """Fill in the smoothed interior of a box, and `SEA` there and around it."""
    y0, x0, y1, x1 = box
    scratch.framed[y0 : y1 + 2, x0 : x1 + 2] = SEA
    height = scratch.height[1:-1, 1:-1]
    if blur_px <= 0:
        height[y0:y1, x0:x1] = interior[y0:y1, x0:x1]
        return
    reach = math.ceil(3 * blur_px) + 1  # OpenCV's kernel for 8 bits ends at 3 sigma
    top, left = max(0, y0 - reach), max(0, x0 - reach)
    part = slice(top, y1 + reach), slice(left, x1 + reach)
    cv2.GaussianBlur(interior[part], (0, 0), blur_px, dst=height[part])


def renumber(labels: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Give labels the numbers 1..n in raster order of their first pixels.

    Parameters
    ----------
    labels : uint32, shape (H, W)
        Any numbers, 0 = background; memory is taken for the largest.

    Returns
    -------
    labels : uint32, shape (H, W)
    first : int64, shape (n,)
        First pixel of each, ``y * W + x``.
    """
    largest = int(labels.max(initial=0))
    numbers, first = np.empty(labels.shape, np.uint32), np.empty(largest, np.int64)
    count = renumber_labels(labels, np.zeros(largest + 1, np.uint32), numbers, first)
    return numbers, first[:count]
