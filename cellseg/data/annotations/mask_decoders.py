"""Masks to classes: one decoder a form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.annotations.palette import decode
from cellseg.data.form.pixels import is_lossy
from cellseg.data.form.sample import Change
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cellseg.data.form.pairs import Pair
    from cellseg.runtime.bundles.class_file import MaskClass

__all__ = ["Colours", "Decoder", "Numbers", "Objects", "Threshold", "black_of"]

_MAX_STRANGE = 0.01
"""Part of a mask that may be areas, not edges, of no colour of the palette."""
_JPEG_BLACK = 24


class Decoder:
    """Turns one mask into class indices; knows its classes."""

    def __init__(self, classes: tuple[MaskClass, ...], notes: Sequence[str] = ()) -> None:
        self.classes, self.notes = classes, list(notes)

    def __call__(
        self, mask: NDArray[Any], pair: Pair
    ) -> tuple[NDArray[np.uint8], NDArray[Any] | None, list[Change]]:
        """Classes, instance ids if the mask has them, and what was changed."""
        raise NotImplementedError


class Objects(Decoder):
    """Every value above 0 is an object of the only class."""

    def __call__(
        self, mask: NDArray[Any], pair: Pair
    ) -> tuple[NDArray[np.uint8], NDArray[Any] | None, list[Change]]:
        """Take every value for an object."""
        if mask.ndim == 3:  # ids in three bytes, as some programs colour them
            wide = mask.astype(np.int64)
            mask = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        return (mask > 0).astype(np.uint8), mask, []


class Threshold(Decoder):
    """Above the threshold is foreground; masks of 0 and 1 are taken as they are.

    In a mask of more than 8 bits the threshold counts for its own white, its largest value.
    """

    def __init__(
        self, classes: tuple[MaskClass, ...], threshold: int, top: int, cutout: bool
    ) -> None:
        super().__init__(classes)
        # A mask of 0 and 1, or 0 and 128, has no grey: its only value above 0 is foreground.
        self._threshold = 0 if top <= threshold else threshold
        self._cutout = cutout

    def __call__(
        self, mask: NDArray[Any], pair: Pair
    ) -> tuple[NDArray[np.uint8], NDArray[Any] | None, list[Change]]:
        """Cut at the threshold, or take what a cut-out shows."""
        grey = mask.max(-1) if mask.ndim == 3 else mask
        if self._cutout:
            assert pair.mask is not None
            said = Change("outline taken from a cut-out")
            return _cut_out(grey, is_lossy(pair.mask)), None, [said]
        is_plain = pair.mask is not None and not is_lossy(pair.mask)
        white = int(grey.max(initial=0))
        # A mask of 0 and 1 may lie beside others of 0 and 255.
        threshold = 0 if is_plain and white == 1 else self._threshold * max(white, 255) // 255
        classes = (grey > threshold).astype(np.uint8)
        between = int(np.count_nonzero((grey > 0) & (grey < white)))
        said = Change(f"thresholded at {threshold}: {{n}} px between", between)
        return classes, None, [said] * bool(between)


class Numbers(Decoder):
    """Values are classes, by a table."""

    def __init__(self, classes: tuple[MaskClass, ...], values: Sequence[int]) -> None:
        super().__init__(classes)
        self._values, self._known = values, {0, *values}
        if list(values) != list(range(1, len(values) + 1)):
            self.notes.append(f"values {list(values)} became 1..{len(values)}")

    def __call__(
        self, mask: NDArray[Any], pair: Pair
    ) -> tuple[NDArray[np.uint8], NDArray[Any] | None, list[Change]]:
        """Look values up."""
        strange = sorted(set(np.unique(mask).tolist()) - self._known)
        if strange or mask.ndim != 2:
            raise DataError(
                f"A mask holds the values of its classes, {sorted(self._known)}. "
                f"Received: {strange[:8]} in {pair.mask}.",
                hint="Its classes.json, or --form, does not fit.",
            )
        classes = np.zeros(mask.shape, np.uint8)
        for index, value in enumerate(self._values, start=1):
            classes[mask == value] = index
        return classes, None, []


class Colours(Decoder):
    """Colours are classes, the nearest one."""

    def __init__(
        self, classes: tuple[MaskClass, ...], background: tuple[int, int, int], tolerance: float,
        notes: Sequence[str],
    ) -> None:  # fmt: skip
        super().__init__(classes, notes)
        self._palette = [background, *(item.color for item in classes)]
        self._tolerance = tolerance

    def __call__(
        self, mask: NDArray[Any], pair: Pair
    ) -> tuple[NDArray[np.uint8], NDArray[Any] | None, list[Change]]:
        """Take the nearest colour; blends take their neighbour's class."""
        colour = mask if mask.ndim == 3 else np.repeat(mask[..., None], 3, -1)
        found = decode(colour, self._palette, self._tolerance)
        if found.strange > _MAX_STRANGE * found.classes.size:
            raise DataError(
                f"A mask has the colours of its palette, {self._palette}. Received: {pair.mask} "
                f"with areas, {found.strange / found.classes.size:.1%} of its pixels, farther than "
                f"{self._tolerance:g} from any: a second palette?",
                hint="Import it apart, name its colours with --palette, or raise --tolerance.",
            )
        near = Change("{n} px near a palette colour, taken for it", found.near)
        off = Change("{n} px off the palette, given to the nearest class", found.off)
        return found.classes, None, [near] * bool(found.near) + [off] * bool(found.off)


def black_of(grey: NDArray[Any]) -> float:
    """Value up to which a JPEG is black; less where all that it shows is dark."""
    shown = grey[grey > 4]
    return min(_JPEG_BLACK, float(np.median(shown)) / 2) if shown.size else _JPEG_BLACK


def _cut_out(grey: NDArray[Any], lossy: bool) -> NDArray[np.uint8]:
    """Foreground of a cut-out: what is not black; in a JPEG black is noisy, and cells are whole."""
    import cv2

    if not lossy:
        return (grey > 0).astype(np.uint8)
    shown = (grey > black_of(grey)).astype(np.uint8)
    opened = cv2.morphologyEx(shown, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(opened), outlines, -1, 1, cv2.FILLED))
