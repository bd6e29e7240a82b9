"""Tissue mask: which parts of a slide need the model at all, seen from far away.

The slide is averaged to about 8 microns a pixel. On a bright ground (stained tissue, smears) tissue
is what absorbs light: optical density against the slide's own white. On a dark ground
(fluorescence) it is what shines: brightness above the ground's own level and noise. The ground is
told by the median brightness as a part of the brightest: over the annotated image sets we know,
fluorescence lies below 0.4 and everything else above 0.65; in between, all is tissue.

Every choice errs to the side of too much: Otsu's threshold only ever lowers a low fixed one,
specks stay, and a margin is added all around. What lies outside the mask is background in the
result, pixel by pixel, whether or not a tile was run there; so the mask, not the tiling, decides.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.plan import TilePlan
    from cellseg.runtime.slide import Slide

__all__ = ["Ground", "TissueMask", "find_tissue", "tissue_of"]

Ground = Literal["whole", "bright", "dark", "unclear", "blank"]

_MASK_MPP = 8.0
_MASK_DOWNSAMPLE = 32  # where the pixel size is not known
_MARGIN_UM = 64.0
_MARGIN_PX = 8  # the same at _MASK_MPP
_MAX_SIDE_PX = 4096
_BLOCK_PX = 2048
_BLANK_RANGE = 6
_DARK_BELOW, _BRIGHT_ABOVE = 0.45, 0.6
_DENSITY_LIMITS = (0.02, 0.05)  # pale stain; shading and JPEG noise of an empty ground
_NOISE_SIGMAS = 4.0
_LEAST_SHINE = 0.03


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
        What the slide was taken for; ``whole``: nobody looked.
    """

    mask: NDArray[np.bool_]
    wl_per_mask: tuple[float, float]
    ground: Ground
    _sums: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sums = np.zeros((self.mask.shape[0] + 1, self.mask.shape[1] + 1), np.int64)
        np.cumsum(np.cumsum(self.mask, axis=0), axis=1, out=sums[1:, 1:])
        object.__setattr__(self, "_sums", sums)

    @classmethod
    def whole(cls, hw: tuple[int, int]) -> TissueMask:
        """Return the mask that leaves nothing out of an image of height and width ``hw``."""
        return cls(np.ones((1, 1), bool), (float(hw[0]), float(hw[1])), "whole")

    @property
    def fraction(self) -> float:
        """Part of the slide that is tissue."""
        return float(self.mask.mean())

    @property
    def digest(self) -> str:
        """Hash of the mask and its scale: part of a run's identity."""
        head = repr((self.mask.shape, self.wl_per_mask)).encode()
        return hashlib.sha256(head + np.packbits(self.mask).tobytes()).hexdigest()

    def tiles_with_tissue(self, plan: TilePlan) -> NDArray[np.int64]:
        """Return the indices of the tiles whose kept part touches tissue, ascending."""
        top, bottom = self._mask_span(plan.y.keep_edges(), 0)
        left, right = self._mask_span(plan.x.keep_edges(), 1)
        counts = (
            self._sums[np.ix_(bottom, right)]
            - self._sums[np.ix_(top, right)]
            - self._sums[np.ix_(bottom, left)]
            + self._sums[np.ix_(top, left)]
        )
        return np.flatnonzero(counts.reshape(-1))

    def covers(self, y0: int, x0: int, y1: int, x1: int) -> bool:
        """Return whether a window of the working level is tissue throughout."""
        (top,), (bottom,) = self._mask_span(np.array([y0, y1]), 0)
        (left,), (right,) = self._mask_span(np.array([x0, x1]), 1)
        return bool(self.mask[top:bottom, left:right].all())

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

    def _mask_span(
        self, edges: NDArray[np.int64], axis: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Mask pixels that intervals between edges touch: starts and stops."""
        scaled = edges / self.wl_per_mask[axis]
        last = self.mask.shape[axis]
        starts = np.floor(scaled[:-1]).astype(np.int64).clip(0, last - 1)
        stops = np.ceil(scaled[1:]).astype(np.int64).clip(1, last)
        return starts, np.maximum(stops, starts + 1)


def find_tissue(slide: Slide, wl_hw: tuple[int, int]) -> TissueMask:
    """Look at a slide from far away and mask its tissue.

    Parameters
    ----------
    slide : Slide
        Open; one level of it is read once, in blocks of a few megapixels.
    wl_hw : (int, int)
        Height and width of the working level, the frame of the mask's questions.

    Returns
    -------
    TissueMask
    """
    level, factor, mask_mpp = _choose_scale(slide)
    height, width = slide.levels[level].height_px, slide.levels[level].width_px
    ground, tissue = tissue_of(_overview(slide, level, factor))
    margin_px = _MARGIN_PX if mask_mpp is None else max(1, round(_MARGIN_UM / mask_mpp))
    wl_per_mask = (factor * wl_hw[0] / height, factor * wl_hw[1] / width)
    return TissueMask(_dilate(tissue, margin_px), wl_per_mask, ground)


def tissue_of(overview: NDArray[Any]) -> tuple[Ground, NDArray[np.bool_]]:
    """Tell tissue from ground in a small picture.

    Parameters
    ----------
    overview : uint8 or uint16, shape (h, w, 3)
        RGB.

    Returns
    -------
    (Ground, bool array of shape (h, w))
        What the ground is, and the tissue without a margin.
    """
    values = overview.astype(np.float32)
    brightness = values.mean(axis=2)
    if float(values.max() - values.min()) < _BLANK_RANGE:
        return "blank", np.zeros(brightness.shape, bool)
    part = float(np.median(brightness) / max(1.0, np.percentile(brightness, 99.9)))
    if part < _DARK_BELOW:
        return "dark", _shines(values.max(axis=2))
    if part > _BRIGHT_ABOVE:
        return "bright", _absorbs(values)
    return "unclear", np.ones(brightness.shape, bool)


def _choose_scale(slide: Slide) -> tuple[int, int, float | None]:
    """Level to read, how many of its pixels make a mask pixel, and microns per mask pixel."""
    base = slide.levels[0]
    l0_mpp = None if slide.mpp is None else math.sqrt(slide.mpp[0] * slide.mpp[1])
    wanted = _MASK_DOWNSAMPLE if l0_mpp is None else max(1.0, _MASK_MPP / l0_mpp)
    wanted = max(wanted, max(base.width_px, base.height_px) / _MAX_SIDE_PX)
    fine = [i for i, level in enumerate(slide.levels) if level.downsample <= wanted * 1.01]
    chosen = max(fine, key=lambda i: slide.levels[i].downsample)
    factor = max(1, math.floor(wanted / slide.levels[chosen].downsample + 0.01))
    mask_mpp = None if l0_mpp is None else l0_mpp * slide.levels[chosen].downsample * factor
    return chosen, factor, mask_mpp


def _overview(slide: Slide, level: int, factor: int) -> NDArray[Any]:
    """Average ``factor`` x ``factor`` pixels of a level, block by block."""
    import cv2

    height, width = slide.levels[level].height_px, slide.levels[level].width_px
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


def _absorbs(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Optical density of the densest channel above a threshold."""
    white = np.percentile(values, 99, axis=(0, 1))
    density = np.log10((white + 1) / (values + 1)).max(axis=2).clip(0, 1)
    return np.asarray(density > np.clip(_otsu(density), *_DENSITY_LIMITS))


def _shines(brightness: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Brightness above the level of the ground, its noise, and a small part of the range."""
    p1, ground, top = np.percentile(brightness, [1, 10, 99.9])
    noise = (ground - p1) / 1.05  # of a normal distribution: 10 % lies 1.28, 1 % 2.33 sigma below
    fixed = ground + max(_NOISE_SIGMAS * noise, _LEAST_SHINE * (top - ground))
    otsu = math.expm1(_otsu(np.log1p(brightness)))
    return np.asarray(brightness > min(fixed, otsu))


def _otsu(values: NDArray[np.float32]) -> float:
    """Otsu's threshold over 256 equal bins."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums / below - (sums[-1] - sums) / above
        between = below * above * gap**2
    return float(edges[1 + int(np.nanargmax(between[:-1]))])


def _dilate(mask: NDArray[np.bool_], margin_px: int) -> NDArray[np.bool_]:
    import cv2

    side = 2 * margin_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc), bool)
