"""What kind of masks a source holds, judged from all of them.

Every mask is looked at once and remembered by a few numbers. Masks that contradict each other (two
palettes, grey beside colour) are refused here, before anything is converted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellseg.data.palette import colour_counts
from cellseg.data.pixels import is_lossy, read_mask
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MaskFacts", "detect_form", "find_palette", "look_at"]

_FEW = 64
_MAX_INDEX = 32
_COLOUR_SHARE = 0.002
"""Part of one mask from which a colour counts as meant, not as a blend."""
_COVERED = 0.9
_SAME_COLOUR = 6.0
"""Colours nearer than this are one, written by two programs (250,190,190 and 251,190,190)."""
_ONE_PIECE = 1.25
_FORM_HINT = "Say it with --form: binary, index, palette, cutout or instances."

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class MaskFacts:
    """What is remembered of one mask."""

    path: Path
    lossy: bool
    """A JPEG: values near edges are not to be trusted."""
    is_colour: bool
    pixels: int
    values: dict[int, int]
    """Grey masks: value to pixels, the most frequent ones."""
    colours: dict[Colour, int]
    """Colour masks: colour to pixels, the most frequent ones."""
    distinct: int
    """Different values or colours."""
    pieces: float
    """Grey masks: mean number of connected pieces of a value; 0 where none."""
    largest: int
    """Grey masks: largest value."""

    @property
    def ends_share(self) -> float:
        """Part of the pixels that is 0 or 255."""
        return (self.values.get(0, 0) + self.values.get(255, 0)) / self.pixels

    @property
    def covered(self) -> float:
        """Part of the pixels whose colour is frequent enough to be meant."""
        return sum(self.meant.values()) / self.pixels

    @property
    def meant(self) -> dict[Colour, int]:
        """Colours frequent enough to be meant."""
        return {c: n for c, n in self.colours.items() if n >= _COLOUR_SHARE * self.pixels}


def look_at(path: Path) -> MaskFacts:
    """Read one mask and remember what tells its kind."""
    mask = read_mask(path)
    lossy, pixels = is_lossy(path), mask.shape[0] * mask.shape[1]
    if mask.ndim == 3:
        colours = Counter(colour_counts(mask))
        frequent = dict(colours.most_common(_FEW))
        return MaskFacts(path, lossy, True, pixels, {}, frequent, len(colours), 0.0, 0)
    values, counts = np.unique(mask, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_FEW]
    frequent_values = {int(values[i]): int(counts[i]) for i in order}
    pieces = 0.0 if lossy or len(values) > 4096 else _pieces_per_value(mask, values)
    return MaskFacts(
        path, lossy, False, pixels, frequent_values, {}, len(values), pieces, int(values.max())
    )


def detect_form(masks: Sequence[MaskFacts]) -> str:
    """Name the form of a set of masks.

    Returns
    -------
    str
        "binary", "index", "instances", "palette" or "colour": the last is JPEG or many-coloured,
        and only the images can tell a cut-out from a palette.

    Raises
    ------
    DataError
        If the masks are of two forms, or of none that is known.
    """
    colour = [item for item in masks if item.is_colour]
    grey = [item for item in masks if not item.is_colour and item.distinct > 1]
    if colour and grey and not _is_grey_part_of_palette(colour, grey):
        raise DataError(
            "The masks of a source are of one form. Received: colours in "
            f"{colour[0].path.name} and grey values in {grey[0].path.name} "
            f"({len(colour)} and {len(grey)} masks).",
            hint="Import them one by one, each with its --form.",
        )
    if colour:
        is_palette = all(item.covered >= _COVERED and not item.lossy for item in colour)
        return "palette" if is_palette else "colour"
    return _grey_form(grey)


def find_palette(masks: Sequence[MaskFacts]) -> tuple[list[Colour], list[str]]:
    """Collect the colours of palette masks, background first, the others by frequency.

    Raises
    ------
    DataError
        If the masks use two palettes.
    """
    sets = [_colours_of(item) for item in masks]
    totals: Counter[Colour] = Counter()
    for item in sets:
        totals.update(item)
    merged, notes = _merged(totals)
    background = (0, 0, 0) if (0, 0, 0) in merged.values() else totals.most_common(1)[0][0]
    per_file = [
        (item.path.name, {merged[c] for c in found} - {background})
        for item, found in zip(masks, sets, strict=True)
    ]
    for mask, found in zip(masks, sets, strict=True):
        if background not in {merged[c] for c in found} and max(found.values()) < mask.pixels:
            raise DataError(
                f"All masks of a source share a background colour, here {background}. "
                f"Received: {mask.path.name} without it: a second palette?",
                hint="Say the colours with --palette name=#rrggbb,..., or import the sets apart.",
            )
    notes += _check_one_palette([pair for pair in per_file if pair[1]])
    foreground = [c for c, _ in totals.most_common() if merged[c] == c and c != background]
    return [background, *foreground], notes


def _grey_form(masks: Sequence[MaskFacts]) -> str:
    values = {value for item in masks for value in item.values}
    if not masks or any(item.lossy for item in masks):
        return "binary"
    if max(item.largest for item in masks) > 255:
        return "instances"
    if values <= {0, 1, 255} and not any({1, 255} <= set(item.values) for item in masks):
        return "binary"
    if len(values) <= 2 and all(item.distinct <= 2 for item in masks):
        return "binary"
    if len(values) > 16 and all(item.ends_share >= _COVERED for item in masks):
        return "binary"
    if _look_like_instances(masks):
        return "instances"
    if len(values) <= _MAX_INDEX and max(item.distinct for item in masks) <= _MAX_INDEX:
        return "index"
    first = max(masks, key=lambda item: item.distinct)
    raise DataError(
        "The values of a mask are classes or objects. "
        f"Received: {first.distinct} values in {first.path.name}, neither clearly.",
        hint=_FORM_HINT,
    )


def _look_like_instances(masks: Sequence[MaskFacts]) -> bool:
    """Tell objects from classes: an object is one piece, and there are many."""
    several = [item for item in masks if item.distinct > 3]
    if not several:
        return False
    in_one_piece = sum(item.pieces <= _ONE_PIECE for item in several) >= 0.8 * len(several)
    counted = sum(item.largest == item.distinct - 1 for item in several) >= 0.8 * len(several)
    most = max(item.distinct for item in several)
    return in_one_piece and (most > _MAX_INDEX or (counted and most > 8))


def _pieces_per_value(mask: NDArray[np.integer], values: NDArray[np.integer]) -> float:
    import cv2

    foreground = values[values > 0][:_FEW]
    counts = [cv2.connectedComponents((mask == v).astype(np.uint8))[0] - 1 for v in foreground]
    return float(np.mean(counts)) if counts else 0.0


def _is_grey_part_of_palette(colour: Sequence[MaskFacts], grey: Sequence[MaskFacts]) -> bool:
    """Tell whether the grey values are colours of the palette: white is one."""
    known = {c for item in colour for c in item.meant}
    return all({(v, v, v) for v in item.values} <= known for item in grey)


def _colours_of(item: MaskFacts) -> dict[Colour, int]:
    if item.is_colour:
        return item.meant
    return {(v, v, v): n for v, n in item.values.items()}


def _merged(totals: Counter[Colour]) -> tuple[dict[Colour, Colour], list[str]]:
    """Map each colour to the most frequent one that is nearly the same."""
    kept: list[Colour] = []
    merged: dict[Colour, Colour] = {}
    notes = []
    for colour, _ in totals.most_common():
        near = [k for k in kept if np.linalg.norm(np.subtract(k, colour)) <= _SAME_COLOUR]
        merged[colour] = near[0] if near else colour
        if near:
            notes.append(f"colour {colour} is taken for {near[0]}")
        else:
            kept.append(colour)
    return merged, notes


def _check_one_palette(files: list[tuple[str, set[Colour]]]) -> list[str]:
    """Refuse masks that fall into two groups which share no colour."""
    groups: list[tuple[str, set[Colour]]] = []
    for name, colours in files:
        touching = [group for group in groups if group[1] & colours]
        union = set(colours).union(*(group[1] for group in touching))
        groups = [group for group in groups if not group[1] & colours]
        groups.append((touching[0][0] if touching else name, union))
    large = [group for group in groups if len(group[1]) > 1]
    if len(large) > 1:
        (first, one), (second, two) = large[:2]
        raise DataError(
            "The masks of a source share one palette. "
            f"Received: {sorted(one)} in {first}, but {sorted(two)} in {second}.",
            hint="Import the two sets apart, or name all colours: --palette name=#rrggbb,...",
        )
    if len(groups) > 1:
        return [f"{len(groups)} groups of masks share no colour; all are taken for one palette"]
    return []
