"""Foreground, or cells, as runs of pixels: what is empty costs no more than a look at it.

A run lies in one row: y, its first column, and the column after its last. Runs are in raster order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from numba import njit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["find_cell_runs", "find_runs", "pieces_in", "sort_by_piece"]


@njit(nogil=True, cache=True)
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
    above, count = 0, 0
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
    return count, _number(piece, count)


@njit(nogil=True, cache=True)
def find_cell_runs(
    labels: NDArray[np.uint32],
    row_of: NDArray[np.int32],
    runs: NDArray[np.int32],
    cell: NDArray[np.int32],
) -> int:
    """Find the runs of wanted cells; return how many there are.

    Parameters
    ----------
    labels : uint32, shape (H, W)
    row_of : int32, shape (m + 1,)
        Number 0..n-1 of each label; -1 for one that is not wanted, and for 0.
    runs : int32, shape (r, 3)
        Written: y, x0, x1. Room for ``H * W`` of them.
    cell : int32, shape (r,)
        Written: number of the cell of each.
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
            if row_of[label] >= 0:
                runs[count, 0], runs[count, 1], runs[count, 2] = y, start, x
                cell[count] = row_of[label]
                count += 1
    return count


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
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
            y, left, right = runs[run]
            if box[0] <= y < box[2] and left < box[3] and right > box[1]:
                is_in[piece] = True
                break
        if is_in[piece]:
            for run in range(starts[piece], starts[piece + 1]):
                y, left, right = runs[run]
                y0, x0, y1, x1 = min(y0, y), min(x0, left), max(y1, y + 1), max(x1, right)
    return y0, x0, y1, x1


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def _root(parent: NDArray[np.int32], run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@njit(nogil=True, cache=True)
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
