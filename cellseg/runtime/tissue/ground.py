"""Tissue and ground, told apart in a small picture of a slide.

On a bright ground (stained tissue, smears) tissue is what absorbs light. The channel follows the
stain: a pixel counts by the optical density, against the slide's own white, of the channel that
its stain absorbs most (red for haematoxylin, green for eosin, blue for DAB), which a grey average
of the three would dilute. On a dark ground (fluorescence) tissue is what shines: brightness above
the ground's own level and noise. The ground is told by the median brightness as a part of the
brightest: over the annotated image sets we know, fluorescence lies below 0.4 and everything else
above 0.65; in between, all is tissue.

Every choice errs to the side of too much: Otsu's threshold only ever lowers a low fixed one.

All statistics come from counts of values, gathered band by band: what is held besides the picture
and its mask does not grow with them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Ground", "tissue_of"]

Ground = Literal["whole", "given", "bright", "dark", "unclear", "blank"]

_BAND_PX = 1 << 20
_BLANK_RANGE = 6
_DARK_BELOW, _BRIGHT_ABOVE = 0.45, 0.6
_DENSITY_LIMITS = (0.02, 0.05)  # pale stain; shading and JPEG noise of an empty ground
_NOISE_SIGMAS = 4.0
_LEAST_SHINE = 0.03
_BINS = 256


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
    channels, sums, tops = _count(overview)
    seen = np.flatnonzero(channels.sum(axis=0))
    if seen[-1] - seen[0] < _BLANK_RANGE:
        return "blank", np.zeros(overview.shape[:2], bool)
    # A mean below 1 is no brightness; sums are three times the mean.
    part = _percentile(sums, 50) / max(3.0, _percentile(sums, 99.9))
    if part < _DARK_BELOW:
        return "dark", _shines(overview, tops)
    if part > _BRIGHT_ABOVE:
        return "bright", _absorbs(overview, channels)
    return "unclear", np.ones(overview.shape[:2], bool)


def _bands(overview: NDArray[Any]) -> Iterator[slice]:
    rows = max(1, _BAND_PX // overview.shape[1])
    return (slice(y, y + rows) for y in range(0, overview.shape[0], rows))


def _count(
    overview: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count the values of each channel, of their sum, and of the largest of the three."""
    levels = int(np.iinfo(overview.dtype).max) + 1
    channels = np.zeros((3, levels), np.int64)
    sums, tops = np.zeros(3 * levels, np.int64), np.zeros(levels, np.int64)
    for rows in _bands(overview):
        band = overview[rows].reshape(-1, 3)
        for channel in range(3):
            channels[channel] += np.bincount(band[:, channel], minlength=levels)
        sums += np.bincount(band.sum(axis=1, dtype=np.uint32), minlength=3 * levels)
        tops += np.bincount(band.max(axis=1), minlength=levels)
    return channels, sums, tops


def _percentile(counts: NDArray[np.int64], percent: float) -> float:
    """Percentile of values of which each occurs so often; linear between two, as NumPy's."""
    upto = np.cumsum(counts)
    place = percent / 100 * (int(upto[-1]) - 1)
    low = math.floor(place)
    first, second = np.searchsorted(upto, [low, min(low + 1, int(upto[-1]) - 1)], side="right")
    return float(first + (second - first) * (place - low))


def _absorbs(overview: NDArray[Any], channels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Optical density of the densest channel above a threshold."""
    white = np.array([_percentile(counts, 99) for counts in channels])
    values = np.arange(channels.shape[1])
    table = np.log10((white[:, None] + 1) / (values + 1)).clip(0, 1).astype(np.float32)

    def density(rows: slice) -> NDArray[np.float32]:
        red, green, blue = (table[channel][overview[rows, :, channel]] for channel in range(3))
        densest: NDArray[np.float32] = np.maximum(np.maximum(red, green), blue)
        return densest

    highest = max(float(density(rows).max()) for rows in _bands(overview))
    counts = np.zeros(_BINS, np.int64)
    for rows in _bands(overview):
        counts += np.histogram(density(rows), bins=_BINS, range=(0, highest))[0]
    threshold = np.clip(_otsu(counts, np.linspace(0, highest, _BINS + 1)), *_DENSITY_LIMITS)
    tissue = np.empty(overview.shape[:2], bool)
    for rows in _bands(overview):
        np.greater(density(rows), np.float32(threshold), out=tissue[rows])
    return tissue


def _shines(overview: NDArray[Any], tops: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Brightness above the level of the ground, its noise, and a small part of the range."""
    p1, ground, top = (_percentile(tops, percent) for percent in (1, 10, 99.9))
    noise = (ground - p1) / 1.05  # of a normal distribution: 10 % lies 1.28, 1 % 2.33 sigma below
    fixed = ground + max(_NOISE_SIGMAS * noise, _LEAST_SHINE * (top - ground))
    seen = np.flatnonzero(tops)
    otsu = math.expm1(_otsu(*np.histogram(np.log1p(seen), bins=_BINS, weights=tops[seen])))
    tissue = np.empty(overview.shape[:2], bool)
    for rows in _bands(overview):
        np.greater(overview[rows].max(axis=2), min(fixed, otsu), out=tissue[rows])
    return tissue


def _otsu(counts: NDArray[Any], edges: NDArray[Any]) -> float:
    """Otsu's threshold of a histogram of equal bins."""
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums / below - (sums[-1] - sums) / above
        between = below.astype(np.float64) * above * gap**2
    return float(edges[1 + int(np.nan_to_num(between[:-1]).argmax())])
