"""The slide as the model sees it: its pixel size, its range of values, any window.

Three frames meet here. Level 0 (``l0_``) is the file's full resolution; the level that is read is
the coarsest one that is still at least as fine as the model wants; the working level (``wl_``) is
that level resampled to the model's microns per pixel, or itself where the two agree to 2 %::

    wl_ pixel i covers level pixels i * scale .. (i + 1) * scale,  scale = model mpp / level mpp
    l0_per_wl = downsample * scale

A model that was trained on whole images brought to one size (``fit_px``) has no microns: there,
``scale`` is what makes the image fit that size.

Values are mapped to uint8 first (one table for the whole slide) and resampled then, with a triangle
as wide as a working pixel. Its weights are integers computed from positions on the whole level, so
a window holds the same bytes whether it is read alone or cut from a larger one.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import numpy as np

from cellseg.errors import SlideError
from cellseg.runtime.slides.slide import DISBELIEVED
from cellseg.runtime.view.normalize import Intensities, build_lut, full_range, take_channel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.slides.slide import Slide

__all__ = ["SOURCE_PX", "WorkingView", "axis_weights"]

_NATIVE_TOLERANCE = 0.02
MOST_COARSER = 4.0
"""How many times larger than the model's a slide's pixels may be to be enlarged."""
SOURCE_PX = 16_000_000
"""Pixels of a level that are resampled at a time."""
_WEIGHT_SUM = 1 << 14


class WorkingView:
    """Windows of a slide at the model's pixel size, as uint8 RGB.

    Parameters
    ----------
    slide : Slide
        Stays open and in the caller's hands.
    model_mpp : float or None
        Microns per pixel that the model was trained at; None: whatever level 0 has.
    value_range : (float, float), optional
        Values that become 0 and 255, as `cellseg.runtime.view.normalize.measure_slide` finds; by
        default the dtype's full range.
    fit_hw : (int, int), optional
        Height and width that the whole is scaled to fit, its aspect kept; then ``model_mpp`` does
        not count.

    Attributes
    ----------
    level : int
        Level that is read.
    scale : float
        Level pixels per working pixel; exactly 1.0 where the level is used as it is.
    l0_per_wl : float
        Level-0 pixels per working pixel.
    hw : (int, int)
        Extent in working pixels.
    mpp : (float, float) or None
        Microns per working pixel, (x, y); None where the slide does not know its own.
    fit_hw : (int, int) or None
        As given.

    Raises
    ------
    SlideError
        If the model needs a pixel size and the slide states none.

    Examples
    --------
    >>> from cellseg.runtime.slides.slide import ArraySlide
    >>> view = WorkingView(ArraySlide(np.full((8, 6), 9, np.uint8), mpp=0.25), model_mpp=0.5)
    >>> view.scale, view.hw, view.read(3, 0, 2, 1)[..., 0].tolist()
    (2.0, (4, 3), [[9], [9]])
    """

    def __init__(
        self,
        slide: Slide,
        model_mpp: float | None,
        value_range: tuple[float, float] | None = None,
        fit_hw: tuple[int, int] | None = None,
    ) -> None:
        self.slide, self.fit_hw = slide, fit_hw
        if fit_hw is None:
            self.level, self.scale = choose_level(slide, model_mpp)
        else:
            self.level, self.scale = fitting_level(slide, fit_hw)
        level = slide.levels[self.level]
        self._level_hw = (level.height_px, level.width_px)
        self.l0_per_wl = level.downsample * self.scale
        self.hw = (_extent(level.height_px, self.scale), _extent(level.width_px, self.scale))
        self.mpp = None
        if slide.mpp is not None:
            self.mpp = (slide.mpp[0] * self.l0_per_wl, slide.mpp[1] * self.l0_per_wl)
        self._see(Intensities(value_range or full_range(slide.dtype)))

    def in_range(self, intensities: Intensities) -> WorkingView:
        """Return the same view with other values as 0 and 255, or of one channel alone."""
        view = copy.copy(self)
        view._see(intensities)
        return view

    def _see(self, intensities: Intensities) -> None:
        self._lut = build_lut(intensities.value_range, self.slide.dtype)
        self._channel = intensities.channel

    def read(self, y0: int, x0: int, h: int, w: int) -> NDArray[np.uint8]:
        """Read a window of the working level; may be called from several threads at once.

        Parameters
        ----------
        y0, x0 : int
            Top-left corner in working pixels.
        h, w : int
            Height and width in working pixels. What reaches past the slide's border repeats the
            border's pixels.

        Returns
        -------
        uint8, shape (h, w, 3)
            RGB; not to be written into.
        """
        if h < 1 or w < 1:
            raise SlideError(f"A window must have at least one pixel. Received: h={h}, w={w}.")
        rows, cols = _span(y0, h, self.hw[0]), _span(x0, w, self.hw[1])
        inner = self._read_inside((rows[0], cols[0]), (rows[1], cols[1]))
        if inner.shape[:2] == (h, w):
            return inner
        return np.pad(inner, (rows[2], cols[2], (0, 0)), mode="edge")

    def _read_inside(self, yx: tuple[int, int], hw: tuple[int, int]) -> NDArray[np.uint8]:
        if self.scale == 1.0:
            return self.read_level(self.level, yx, hw)
        out = np.empty((*hw, 3), np.uint8)
        # A strongly reduced window is read in blocks, so that its source stays small.
        step = max(1, int(math.sqrt(SOURCE_PX) / self.scale))
        for y in range(0, hw[0], step):
            for x in range(0, hw[1], step):
                part = out[y : y + step, x : x + step]
                self._resample_into((yx[0] + y, yx[1] + x), part)
        return out

    def read_level(self, level: int, yx: tuple[int, int], hw: tuple[int, int]) -> NDArray[np.uint8]:
        """Read a window of a level of the slide, in the view's intensities; see ``Slide``."""
        return take_channel(self.slide.read_region(level, yx, hw), self._lut, self._channel)

    def _resample_into(self, yx: tuple[int, int], part: NDArray[np.uint8]) -> None:
        from cellseg.runtime.kernels.resample import resample

        axes = [
            axis_weights(start, count, self.scale, extent)
            for start, count, extent in zip(yx, part.shape[:2], self._level_hw, strict=True)
        ]
        (y_first, y_weights), (x_first, x_weights) = axes
        l_yx = int(y_first.min()), int(x_first.min())
        l_hw = (
            int(y_first.max()) + y_weights.shape[1] - l_yx[0],
            int(x_first.max()) + x_weights.shape[1] - l_yx[1],
        )
        contiguous = np.ascontiguousarray(self.read_level(self.level, l_yx, l_hw))
        resample(contiguous, y_first - l_yx[0], y_weights, x_first - l_yx[1], x_weights, part)


def choose_level(slide: Slide, model_mpp: float | None) -> tuple[int, float]:
    """Choose the level to read and how many of its pixels make a working pixel.

    Parameters
    ----------
    slide : Slide
        Its levels and pixel size count.
    model_mpp : float or None
        Microns per pixel that the model wants.

    Returns
    -------
    (int, float)
        The coarsest level at least as fine as wanted (to 2 %), else level 0; and the scale, 1.0
        where level and model agree to 2 %, below 1 where the slide is coarser than the model. A
        slide over four times coarser is taken as it is: enlarged, it shows no more.

    Raises
    ------
    SlideError
        If the model wants a pixel size and the slide states none (a plain image is then taken to be
        at the model's).
    """
    if model_mpp is None or (slide.mpp is None and slide.kind == "image"):
        return 0, 1.0
    if slide.mpp is None:
        stated = slide.properties.get(DISBELIEVED)
        lack = (
            f"says {stated}, which cannot be" if stated else "does not say how large its pixels are"
        )
        raise SlideError(
            f"{slide.path}: the file {lack}, and the model needs {model_mpp:g} microns per pixel.",
            hint="Say it with --mpp: a 40x scan is mostly near 0.25, a 20x scan near 0.5.",
        )
    l0_mpp = math.sqrt(slide.mpp[0] * slide.mpp[1])
    limit = model_mpp * (1 + _NATIVE_TOLERANCE)
    fine = [i for i, level in enumerate(slide.levels) if l0_mpp * level.downsample <= limit]
    chosen = max(fine, key=lambda i: slide.levels[i].downsample, default=0)
    scale = model_mpp / (l0_mpp * slide.levels[chosen].downsample)
    is_native = abs(scale - 1) <= _NATIVE_TOLERANCE or scale < 1 / MOST_COARSER
    return chosen, 1.0 if is_native else scale


def fitting_level(slide: Slide, fit_hw: tuple[int, int]) -> tuple[int, float]:
    """Choose the level to read, and the scale that makes it fit a size with its aspect kept.

    Parameters
    ----------
    slide : Slide
        Its levels count.
    fit_hw : (int, int)
        Height and width to fit.

    Returns
    -------
    (int, float)
        The coarsest level that is not to be enlarged, else level 0; and its pixels per working
        pixel.

    Examples
    --------
    >>> from cellseg.runtime.slides.slide import ArraySlide
    >>> fitting_level(ArraySlide(np.zeros((1200, 1600), np.uint8)), (512, 512))
    (0, 3.125)
    """
    scales = [
        max(level.height_px / fit_hw[0], level.width_px / fit_hw[1]) for level in slide.levels
    ]
    level = max((i for i, scale in enumerate(scales) if scale >= 1.0), default=0)
    return level, scales[level]


def axis_weights(
    start: int, count: int, scale: float, extent: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Tabulate the triangle weights of one axis, from positions on the whole level.

    Parameters
    ----------
    start, count : int
        Working pixels ``start .. start + count``.
    scale : float
        Level pixels per working pixel. The triangle is ``max(scale, 1)`` level pixels to a side.
    extent : int
        Level pixels on this axis; beyond them the border pixel counts.

    Returns
    -------
    first : int32, shape (count,)
        First level pixel of each working pixel, ``0 <= first <= extent - taps``.
    weights : int32, shape (count, taps)
        Weights from there on; each line sums to 2**14.

    Examples
    --------
    >>> first, weights = axis_weights(0, 2, 2.0, 4)
    >>> first.tolist(), (weights * 8 >> 14).tolist()
    ([0, 0], [[4, 3, 1, 0], [0, 1, 3, 4]])
    """
    radius = max(scale, 1.0)
    centre = (start + np.arange(count) + 0.5) * scale - 0.5
    lowest = np.floor(centre - radius).astype(np.int64) + 1
    positions = lowest[:, None] + np.arange(math.ceil(2 * radius))
    exact = np.maximum(0.0, 1.0 - np.abs(positions - centre[:, None]) / radius)
    fixed = np.floor(exact / exact.sum(1, keepdims=True) * _WEIGHT_SUM + 0.5).astype(np.int32)
    lines = np.arange(count)
    fixed[lines, exact.argmax(1)] += _WEIGHT_SUM - fixed.sum(1, dtype=np.int32)
    taps = min(positions.shape[1], extent)
    first = np.clip(lowest, 0, extent - taps)
    weights = np.zeros((count, taps), np.int32)
    columns = np.clip(positions, 0, extent - 1) - first[:, None]
    np.add.at(weights, (lines[:, None], columns), fixed)
    return first.astype(np.int32), weights


def _extent(level_px: int, scale: float) -> int:
    return level_px if scale == 1.0 else max(1, math.floor(level_px / scale + 0.5))


def _span(start: int, count: int, extent: int) -> tuple[int, int, tuple[int, int]]:
    """Split a span into what lies inside (at least a border pixel) and the padding around it."""
    first = min(max(start, 0), extent - 1)
    inside = max(1, min(start + count, extent) - first)
    before = min(max(0, first - start), count - inside)
    return first, inside, (before, count - inside - before)
