"""Tissue mask: which parts of a slide need the model at all, seen from far away.

The slide is averaged to about 8 microns a pixel and told apart from its ground
(`cellseg.runtime.tissue.ground`); specks below a limit are dropped, holes below another are filled,
and a margin is added all around. Or somebody gives a mask of their own, of any resolution.

What lies outside the mask is background in the result, pixel by pixel, whether or not a tile was
run there; so the mask, not the tiling, decides.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.slides.source_tiles import was_filled
from cellseg.runtime.tissue.ground import tissue_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.slides.slide import Slide
    from cellseg.runtime.tiles.plan import TilePlan
    from cellseg.runtime.tissue.ground import Ground

__all__ = ["TissueLimits", "TissueMask", "find_tissue"]

_MASK_MPP = 8.0
_MASK_DOWNSAMPLE = 32  # where the pixel size is not known
_MARGIN_UM = 64.0
_MAX_SIDE_PX = 4096
_BLOCK_PX = 2048


@dataclass(frozen=True)
class TissueLimits:
    """What is too small to count, before the margin is added."""

    speck_um2: float = 0.0
    """Smaller pieces of tissue are dropped. None by default: in a smear each cell is one."""

    hole_um2: float = 20_000.0
    """Smaller holes in tissue are filled. By default those that the margin closes anyway."""


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Low-resolution foreground of a slide.

    Parameters
    ----------
    mask : bool, shape (mh, mw)
        True where tissue is.
    wl_per_mask : (float, float)
        Working-level pixels per mask pixel, (y, x).
    ground : Ground
        What the slide was taken for; ``whole``: nobody looked; ``given``: the mask is a user's.
    wanted : TissueMask, optional
        What of it is to be shown, where more is run so that cells on its edge are whole.
    """

    mask: NDArray[np.bool_]
    wl_per_mask: tuple[float, float]
    ground: Ground
    wanted: TissueMask | None = None

    @classmethod
    def whole(cls, hw: tuple[int, int]) -> TissueMask:
        """Return the mask that leaves nothing out of an image of height and width ``hw``."""
        return cls(np.ones((1, 1), bool), (float(hw[0]), float(hw[1])), "whole")

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return self.mask.nbytes + (0 if self.wanted is None else self.wanted.nbytes)

    @property
    def fraction(self) -> float:
        """Part of the slide that is tissue."""
        return float((self.wanted or self).mask.mean())

    @property
    def digest(self) -> str:
        """Hash of the mask and its scale: part of a run's identity."""
        head = repr((self.mask.shape, self.wl_per_mask)).encode()
        found = hashlib.sha256(head + np.packbits(self.mask).tobytes())
        if self.wanted is not None:
            found.update(self.wanted.digest.encode())
        return found.hexdigest()

    def grown(self, reach_px: int) -> TissueMask:
        """Return a mask that reaches further, pixels of the working level along y and x."""
        import cv2

        down, right = (math.ceil(reach_px / side) for side in self.wl_per_mask)
        mask = self.mask.view(np.uint8)
        for side in (np.ones((2 * down + 1, 1), np.uint8), np.ones((1, 2 * right + 1), np.uint8)):
            mask = cv2.dilate(mask, side)
        return TissueMask(mask.view(bool), self.wl_per_mask, self.ground, wanted=self)

    def tiles_with_tissue(self, plan: TilePlan) -> NDArray[np.int64]:
        """Return the indices of the tiles whose kept part touches tissue, ascending."""
        top, bottom = self._mask_span(plan.y.keep_edges(), 0)
        left, right = self._mask_span(plan.x.keep_edges(), 1)
        touched = np.zeros(plan.grid, bool)
        upto = np.zeros(self.mask.shape[1] + 1, np.int64)
        for row, (start, stop) in enumerate(zip(top, bottom, strict=True)):
            np.cumsum(self.mask[start:stop].any(axis=0), out=upto[1:])
            touched[row] = upto[right] > upto[left]
        return np.flatnonzero(touched)

    def at(self, ys: NDArray[np.float64], xs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points of a grid on the working level are tissue, bool (h, w)."""
        rows, columns = self._mask_px(ys, 0), self._mask_px(xs, 1)
        return np.asarray(self.mask[rows[:, None], columns])

    def inside(self, y0: int, x0: int, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which pixels of a window of the working level are tissue, shape ``hw``."""
        part = self._part(y0, x0, y0 + hw[0], x0 + hw[1])
        if part.all() or not part.any():
            return np.full(hw, part[0, 0])
        y, x = (np.arange(a, a + n, dtype=np.float64) for a, n in zip((y0, x0), hw, strict=True))
        return self.at(y + 0.5, x + 0.5)

    def has(self, ys: NDArray[np.float64], xs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points of the working level are tissue, bool (n,)."""
        return np.asarray(self.mask[self._mask_px(ys, 0), self._mask_px(xs, 1)])

    def covers(self, y0: int, x0: int, y1: int, x1: int) -> bool:
        """Return whether a window of the working level is tissue throughout."""
        return bool(self._part(y0, x0, y1, x1).all())

    def _part(self, y0: int, x0: int, y1: int, x1: int) -> NDArray[np.bool_]:
        """Return the part of the mask that a window touches."""
        (top,), (bottom,) = self._mask_span(np.array([y0, y1]), 0)
        (left,), (right,) = self._mask_span(np.array([x0, x1]), 1)
        return self.mask[top:bottom, left:right]

    def blank_outside(self, classes: NDArray[np.uint8], y0: int, x0: int) -> None:
        """Set what lies outside the tissue to background, in place.

        Parameters
        ----------
        classes : uint8, shape (h, w)
            Part of the class map.
        y0, x0 : int
            Its top-left corner in working-level pixels.
        """
        h, w = classes.shape
        if self.ground == "whole" or self.covers(y0, x0, y0 + h, x0 + w):
            return
        from cellseg.runtime.kernels.stitch import blank_outside

        blank_outside(classes, y0, x0, self.mask, *self.wl_per_mask)

    def _mask_px(self, at: NDArray[np.float64], axis: int) -> NDArray[np.int64]:
        """Mask pixels that hold points of an axis, as `kernels.stitch.blank_outside` finds them."""
        return (at / self.wl_per_mask[axis]).astype(np.int64).clip(0, self.mask.shape[axis] - 1)

    def _mask_span(
        self, edges: NDArray[np.int64], axis: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Mask pixels that intervals between edges touch: starts and stops."""
        scaled = edges / self.wl_per_mask[axis]
        last = self.mask.shape[axis]
        starts = np.floor(scaled[:-1]).astype(np.int64).clip(0, last - 1)
        stops = np.ceil(scaled[1:]).astype(np.int64).clip(1, last)
        return starts, np.maximum(stops, starts + 1)


def find_tissue(
    slide: Slide, wl_hw: tuple[int, int], limits: TissueLimits | None = None
) -> TissueMask:
    """Look at a slide from far away and mask its tissue.

    Parameters
    ----------
    slide : Slide
        Open; one level of it is read once, in blocks of a few megapixels. Where damaged tiles of it
        were filled, a finer one is read, if there is one that is whole.
    wl_hw : (int, int)
        Height and width of the working level, the frame of the mask's questions.
    limits : TissueLimits, optional
        What is too small to count.

    Returns
    -------
    TissueMask
        At most 4096 pixels to a side.
    """
    scale, found = None, _choose_scale(slide)
    while scale != found:  # until the level does not turn out to be damaged
        scale = found
        level, factor, known_mpp = scale
        overview = _overview(slide, level, factor)
        found = _choose_scale(slide)
    height, width = _size_of(slide, level)
    ground, tissue = tissue_of(overview)
    mask_mpp = _MASK_MPP if known_mpp is None else known_mpp
    if ground in ("bright", "dark"):
        tissue = _tidied(tissue, limits or TissueLimits(), mask_mpp**2)
    wl_per_mask = (factor * wl_hw[0] / height, factor * wl_hw[1] / width)
    margin_px = max(1, round(_MARGIN_UM / mask_mpp))
    return TissueMask(_dilate(tissue, margin_px), wl_per_mask, ground)


def _choose_scale(slide: Slide) -> tuple[int, int, float | None]:
    """Level to read, how many of its pixels make a mask pixel, and microns per mask pixel."""
    base = slide.levels[0]
    l0_mpp = None if slide.mpp is None else math.sqrt(slide.mpp[0] * slide.mpp[1])
    wanted = _MASK_DOWNSAMPLE if l0_mpp is None else max(1.0, _MASK_MPP / l0_mpp)
    wanted = max(wanted, max(base.width_px, base.height_px) / _MAX_SIDE_PX)
    fine = [i for i, item in enumerate(slide.levels) if item.downsample <= wanted * 1.01]
    # Where damaged tiles were filled with ground, tissue would be missed without a word.
    whole = [i for i in fine if not was_filled(slide, i, (0, 0), _size_of(slide, i))]
    chosen = max(whole or fine[:1], key=lambda i: slide.levels[i].downsample)
    level = slide.levels[chosen]
    # Rather finer than wanted than coarser; but never larger than the limit.
    factor = max(
        1,
        math.floor(wanted / level.downsample + 0.01),
        -(-max(level.width_px, level.height_px) // _MAX_SIDE_PX),
    )
    mask_mpp = None if l0_mpp is None else l0_mpp * level.downsample * factor
    return chosen, factor, mask_mpp


def _size_of(slide: Slide, level: int) -> tuple[int, int]:
    return slide.levels[level].height_px, slide.levels[level].width_px


def _overview(slide: Slide, level: int, factor: int) -> NDArray[Any]:
    """Average ``factor`` x ``factor`` pixels of a level, block by block."""
    import cv2

    height, width = _size_of(slide, level)
    out = np.empty((-(-height // factor), -(-width // factor), 3), slide.dtype)
    step = max(1, _BLOCK_PX // factor)
    for y in range(0, out.shape[0], step):
        for x in range(0, out.shape[1], step):
            part = out[y : y + step, x : x + step]
            top, left = y * factor, x * factor
            hw = (
                min(part.shape[0] * factor, height - top),
                min(part.shape[1] * factor, width - left),
            )
            block = slide.read_region(level, (top, left), hw)
            over = (part.shape[0] * factor - hw[0], part.shape[1] * factor - hw[1])
            if any(over):  # the last mask pixel of an axis may cover less
                block = np.pad(block, ((0, over[0]), (0, over[1]), (0, 0)), mode="edge")
            part[:] = cv2.resize(block, part.shape[1::-1], interpolation=cv2.INTER_AREA)
    return out


def _tidied(tissue: NDArray[np.bool_], limits: TissueLimits, px_um2: float) -> NDArray[np.bool_]:
    """Drop small specks, then fill small holes; a hole is ground that tissue surrounds."""
    if limits.speck_um2 > px_um2:
        tissue = _without_small(tissue, limits.speck_um2 / px_um2, 8)
    if limits.hole_um2 > px_um2:
        tissue = ~_without_small(~tissue, limits.hole_um2 / px_um2, 4, spare_border=True)
    return tissue


def _without_small(
    mask: NDArray[np.bool_], least_px: float, connectivity: int, *, spare_border: bool = False
) -> NDArray[np.bool_]:
    """Clear the connected pieces that have fewer pixels; those at the border may be larger."""
    import cv2

    _, pieces, facts, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S
    )
    keep = facts[:, cv2.CC_STAT_AREA] >= least_px
    if spare_border:
        for line in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
            keep[line] = True
    keep[0] = False
    return np.asarray(keep[pieces])


def _dilate(mask: NDArray[np.bool_], margin_px: int) -> NDArray[np.bool_]:
    import cv2

    side = 2 * margin_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(mask.view(np.uint8), disc)).view(bool)
