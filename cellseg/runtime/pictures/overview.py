"""A slide and its class map as one picture each, a whole number of halvings smaller.

Both have the same size: pixel (y, x) of one lies on pixel (y, x) of the other. The class map
is collected while it is written: one pass over the tiles gives file, counts and overview.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from threading import Event, Lock
from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.store.labels import halved
from cellseg.runtime.view.working import axis_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.view.working import WorkingView

__all__ = ["ClassSurvey", "halvings_to_fit", "read_overview"]

_BLOCK_SOURCE_PX = 2048


def halvings_to_fit(hw: tuple[int, int], longest_px: int) -> int:
    """Return how often an image must be halved until its longer side is at most ``longest_px``."""
    times, side = 0, max(hw)
    while side > longest_px:
        times, side = times + 1, -(-side // 2)
    return times


class ClassSurvey:
    """Counts the pixels of each class and keeps a reduced class map.

    Parameters
    ----------
    hw : (int, int)
        Size of the class map.
    class_count : int
        Classes, background included.
    halvings : int
        How often the overview is halved, at most 9: windows of 512 pixels hold whole blocks.

    Attributes
    ----------
    counts : int64, shape (class_count,)
        Pixels of each class so far.
    overview : uint8
        The reduced class map, by the commonest class of each block of four.
    halvings : int
        As given.
    """

    def __init__(self, hw: tuple[int, int], class_count: int, halvings: int) -> None:
        self.halvings = halvings
        self._lock = Lock()
        self._ended = Event()
        self._unseen_px = hw[0] * hw[1]
        self.counts = np.zeros(class_count, np.int64)
        self.overview = np.zeros(_reduced(hw, halvings), np.uint8)

    def see(self, y0: int, x0: int, classes: NDArray[np.uint8]) -> None:
        """Take in a window; its origin is a multiple of 2**halvings. Any thread may call."""
        from cellseg.runtime.kernels.pyramid import count_classes

        counts = np.zeros_like(self.counts)
        count_classes(np.ascontiguousarray(classes), counts)
        seen_px = classes.size
        for _ in range(self.halvings):
            classes = halved(classes)
        (h, w), y, x = classes.shape, y0 >> self.halvings, x0 >> self.halvings
        self.overview[y : y + h, x : x + w] = classes
        with self._lock:
            self.counts += counts
            self._unseen_px -= seen_px
            if self.is_whole:
                self._ended.set()

    @property
    def is_whole(self) -> bool:
        """Whether every pixel was taken in."""
        return self._unseen_px == 0

    def wait(self) -> None:
        """Return when every pixel was taken in.

        Raises
        ------
        CancelledError
            If another thread gave up.
        """
        self._ended.wait()
        if not self.is_whole:
            raise CancelledError

    def give_up(self) -> None:
        """Let nobody wait for what will not come."""
        self._ended.set()


def read_overview(
    view: WorkingView, halvings: int, rows: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Read the slide, reduced; from the coarsest level that still has the pixels.

    Parameters
    ----------
    view : WorkingView
        Gives the frame: its extent, halved, is the size of the picture. And the intensities.
    halvings : int
        How often its extent is halved.
    rows : (int, int), optional
        First row of the picture that is read, and the one after the last; by default all.

    Returns
    -------
    uint8, shape (h, w, 3)
        RGB. Blocks of about 2048 x 2048 source pixels are held while it is made.
    """
    height, width = _reduced(view.hw, halvings)
    top, bottom = (0, height) if rows is None else rows
    if halvings == 0:
        return view.read(top, 0, bottom - top, width)
    level, scales = _level_for(view, halvings)
    picture = np.empty((bottom - top, width, 3), np.uint8)
    step = max(1, int(_BLOCK_SOURCE_PX / max(scales)))
    for y in range(0, bottom - top, step):
        for x in range(0, width, step):
            part, yx = picture[y : y + step, x : x + step], (top + y, x)
            if scales == (1.0, 1.0):  # the level is the picture as it is
                part[:] = view.read_level(level, yx, (part.shape[0], part.shape[1]))
            else:
                _fill(part, yx, view, level, scales)
    return picture


def _reduced(hw: tuple[int, int], halvings: int) -> tuple[int, int]:
    return -(-hw[0] // 2**halvings), -(-hw[1] // 2**halvings)


def _level_for(view: WorkingView, halvings: int) -> tuple[int, tuple[float, float]]:
    """Coarsest level that is at least as fine as the picture, and its pixels per picture pixel."""
    levels, base = view.slide.levels, view.slide.levels[view.level]
    wanted = base.downsample * view.scale * 2**halvings
    fine = [i for i in range(view.level, len(levels)) if levels[i].downsample <= wanted * 1.01]
    chosen = levels[max(fine, key=lambda i: levels[i].downsample)]
    reduction = view.scale * 2**halvings
    scales = (
        reduction * chosen.height_px / base.height_px,
        reduction * chosen.width_px / base.width_px,
    )
    return levels.index(chosen), scales


def _fill(
    part: NDArray[np.uint8],
    yx: tuple[int, int],
    view: WorkingView,
    level: int,
    scales: tuple[float, float],
) -> None:
    """Resample one block of the picture."""
    from cellseg.runtime.kernels.resample import resample

    extent = view.slide.levels[level]
    y_first, y_weights = axis_weights(yx[0], part.shape[0], scales[0], extent.height_px)
    x_first, x_weights = axis_weights(yx[1], part.shape[1], scales[1], extent.width_px)
    top, left = int(y_first.min()), int(x_first.min())
    hw = (
        int(y_first.max()) + y_weights.shape[1] - top,
        int(x_first.max()) + x_weights.shape[1] - left,
    )
    contiguous = np.ascontiguousarray(view.read_level(level, (top, left), hw))
    resample(contiguous, y_first - top, y_weights, x_first - left, x_weights, part)
