"""Foreground, or cells, as runs of pixels: what is empty costs no more than a look at it.

A run lies in one row: y, its first column, and the column after its last. Runs are in raster order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.kernels.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "crop_runs",
    "find_boxes",
    "find_cell_runs",
    "find_runs",
    "paint_runs",
    "pieces_in",
    "sort_by_piece",
    "take_runs",
]


@kernel
def find_runs(
    foreground: NDArray[np.uint8], runs: NDArray[np.int32], piece: NDArray[np.int32]
) -> tuple[int, int]:
    """Find the runs of an image, and which 4-connected piece each of them belongs to.

    Parameters
    ----------
    foreground : uint8 or bool, shape (H, W)
        Not 0 where there is foreground.
    runs : int32, shape (r, 3)
        Written: y, x0, x1. Room for ``H * ((W + 1) // 2)`` of them.
    piece : int32, shape (r,)
        Written: pieces 0..k-1, in raster order of their first pixels.

    Returns
    -------
    int
        How many runs there are.
    int
        How many pieces, k.
    """
    height, width = foreground.shape
    above, count = np.int64(0), np.int64(0)
    for y in range(height):
        begin, x = count, 0
        while x < width:
            if not foreground[y, x]:
                x += 1
                continue
            runs[count, 0], runs[count, 1] = y, x
            while x < width and foreground[y, x]:
                x += 1
            runs[count, 2] = x
            piece[count] = count
            above = _join_above(runs, piece, above, begin, count)
            count += 1
        above = begin
    return int(count), _number(piece, count)


@kernel
def find_cell_runs(
    labels: NDArray[np.uint32], runs: NDArray[np.int32], cell: NDArray[np.int32]
) -> int:
    """Find the runs of a label map; return how many there are.

    Parameters
    ----------
    labels : uint32, shape (H, W)
        0 = background.
    runs : int32, shape (r, 3)
        Written: y, x0, x1. Room for ``H * W`` of them.
    cell : int32, shape (r,)
        Written: label of each, less 1.
    """
    height, width = labels.shape
    count = 0
    for y in range(height):
        x = 0
        while x < width:
            label, start = labels[y, x], x
            x += 1
            if label == 0:
                continue
            while x < width and labels[y, x] == label:
                x += 1
            runs[count, 0], runs[count, 1], runs[count, 2] = y, start, x
            cell[count] = label - 1
            count += 1
    return count


@kernel
def sort_by_piece(
    piece: NDArray[np.int32], starts: NDArray[np.int32], order: NDArray[np.int32]
) -> None:
    """Sort runs by their pieces, or cells, those of one in raster order.

    Parameters
    ----------
    piece : int32, shape (r,)
        0..k-1.
    starts : int32, shape (k + 1,)
        Written: where each piece begins in ``order``, and the end of the last.
    order : int32, shape (r,)
        Written: indices of runs.
    """
    starts[:] = 0
    for run in range(piece.size):
        starts[piece[run] + 1] += 1
    for index in range(1, starts.size):
        starts[index] += starts[index - 1]
    for run in range(piece.size):
        order[starts[piece[run]]] = run
        starts[piece[run]] += 1
    for index in range(starts.size - 1, 0, -1):
        starts[index] = starts[index - 1]
    starts[0] = 0


@kernel
def pieces_in(
    runs: NDArray[np.int32],
    starts: NDArray[np.int32],
    box: tuple[int, int, int, int],
    is_in: NDArray[np.bool_],
) -> tuple[int, int, int, int]:
    """Find the pieces that reach into a box, and the box around all of them.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        Sorted by pieces.
    starts : int32, shape (k + 1,)
        Where each piece begins in ``runs``.
    box : (int, int, int, int)
        y0, x0, y1, x1.
    is_in : bool, shape (k,)
        Written.

    Returns
    -------
    (int, int, int, int)
        y0, x0, y1, x1; ``box`` itself is part of it.
    """
    y0, x0, y1, x1 = box
    for piece in range(is_in.size):
        is_in[piece] = False
        for run in range(starts[piece], starts[piece + 1]):
            y, left, right = runs[run, 0], runs[run, 1], runs[run, 2]
            if box[0] <= y < box[2] and left < box[3] and right > box[1]:
                is_in[piece] = True
                break
        if is_in[piece]:
            for run in range(starts[piece], starts[piece + 1]):
                y, left, right = runs[run, 0], runs[run, 1], runs[run, 2]
                y0, x0, y1, x1 = min(y0, y), min(x0, left), max(y1, y + 1), max(x1, right)
    return y0, x0, y1, x1


@kernel
def find_boxes(
    runs: NDArray[np.int32], starts: NDArray[np.int32], boxes: NDArray[np.int64]
) -> tuple[int, int]:
    """Find where cells lie.

    Parameters
    ----------
    runs : int32, shape (r, 3)
        Sorted by cells, or pieces.
    starts : int32, shape (n + 1,)
        Where each cell begins in ``runs``.
    boxes : int64, shape (n, 4)
        Written: y0, x0, y1, x1, half open.

    Returns
    -------
    int
        Sides of pixels on outlines, at most.
    int
        Pixels of the largest box with a frame around it.
    """
    sides, largest = 0, 0
    for cell in range(boxes.shape[0]):
        left, right = runs[starts[cell], 1], 0
        for run in range(starts[cell], starts[cell + 1]):
            left, right = min(left, runs[run, 1]), max(right, runs[run, 2])
            sides += 2 + 2 * (runs[run, 2] - runs[run, 1])
        y0, y1 = runs[starts[cell], 0], runs[starts[cell + 1] - 1, 0] + 1
        boxes[cell, 0], boxes[cell, 1], boxes[cell, 2], boxes[cell, 3] = y0, left, y1, right
        largest = max(largest, (y1 - y0 + 2) * (right - left + 2))
    return sides, largest


@kernel
def crop_runs(
    runs: NDArray[np.int32],
    starts: NDArray[np.int32],
    box: tuple[int, int, int, int],
    cropped: NDArray[np.int32],
    cropped_starts: NDArray[np.int32],
) -> int:
    """Find what of each cell lies in a box; return how many runs that are.

    Parameters
    ----------
    runs, starts
        As for `find_boxes`.
    box : (int, int, int, int)
        y0, x0, y1, x1.
    cropped : int32, shape (r, 3)
        Written: the runs in the box, relative to it.
    cropped_starts : int32, shape (n + 1,)
        Written: where each cell begins in ``cropped``.
    """
    y0, x0, y1, x1 = box
    count = 0
    for cell in range(starts.size - 1):
        cropped_starts[cell] = count
        for run in range(starts[cell], starts[cell + 1]):
            y, left, right = runs[run, 0], max(runs[run, 1], x0), min(runs[run, 2], x1)
            if y0 <= y < y1 and left < right:
                cropped[count, 0] = y - y0
                cropped[count, 1], cropped[count, 2] = left - x0, right - x0
                count += 1
    cropped_starts[starts.size - 1] = count
    return count


@kernel
def take_runs(
    runs: NDArray[np.int32],
    starts: NDArray[np.int32],
    cells: NDArray[np.int64],
    taken: NDArray[np.int32],
    taken_starts: NDArray[np.int32],
) -> int:
    """Copy the runs of some cells; return how many there are.

    Parameters
    ----------
    runs, starts
        As for `find_boxes`.
    cells : int64, shape (m,)
        Which, in any order.
    taken : int32, shape (r, 3)
        Written; room for all runs of those cells.
    taken_starts : int32, shape (m + 1,)
        Written: where each begins in ``taken``.
    """
    count = 0
    for index in range(cells.size):
        taken_starts[index] = count
        for run in range(starts[cells[index]], starts[cells[index] + 1]):
            taken[count, 0], taken[count, 1] = runs[run, 0], runs[run, 1]
            taken[count, 2] = runs[run, 2]
            count += 1
    taken_starts[cells.size] = count
    return count


@kernel
def paint_runs(
    runs: NDArray[np.int32],
    starts: NDArray[np.int32],
    numbers: NDArray[np.uint32],
    labels: NDArray[np.uint32],
) -> None:
    """Write the number of each cell, shape (n,), where its runs lie in an image, shape (H, W)."""
    for cell in range(numbers.size):
        for run in range(starts[cell], starts[cell + 1]):
            labels[runs[run, 0], runs[run, 1] : runs[run, 2]] = numbers[cell]


@kernel
def _join_above(
    runs: NDArray[np.int32], piece: NDArray[np.int32], above: int, end: int, run: int
) -> int:
    """Join a run with those of the row above it; return the first that the next may touch."""
    while above < end and runs[above, 2] <= runs[run, 1]:
        above += 1
    at = above
    while at < end and runs[at, 1] < runs[run, 2]:
        one, two = _root(piece, at), _root(piece, run)
        piece[max(one, two)] = min(one, two)
        at += 1
    return above


@kernel
def _root(parent: NDArray[np.int32], run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@kernel
def _number(piece: NDArray[np.int32], count: int) -> int:
    """Turn the runs that others lead to into numbers of pieces, in place."""
    pieces = 0
    for run in range(count):
        if piece[run] == run:
            piece[run] = pieces
            pieces += 1
        else:  # leads to an earlier run, which has its number already
            piece[run] = piece[piece[run]]
    return pieces
