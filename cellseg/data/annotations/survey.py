"""What kind of masks a source holds, judged from all of them.

Every mask is looked at once and remembered by a few numbers. Masks that contradict each other (two
palettes, grey beside colour) are refused here, before anything is converted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.annotations.palette import DEFAULT_TOLERANCE, colour_counts, decode, packed
from cellseg.data.form.pixels import is_lossy, read_mask
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "MaskFacts",
    "detect_form",
    "find_palette",
    "form_of_labels",
    "look_at",
    "look_like_instances",
]

_FEW = 64
_MAX_INDEX = 32
_BLURRED = 16
"""With more values than this a mask may be one of two, with soft edges."""
_COLOUR_SHARE = 0.002
"""Part of one mask from which a thin line's colour counts as meant, not as a blend."""
_SOLID_PX, _SOLID_SHARE = 4, 0.05
"""A colour that is meant fills areas: so many of its pixels lie among their like."""
_BLEND = 8.0
"""Colours this near to the line between two others are their blend."""
_COVERED = 0.9
_GREY_ENDS = 48
"""JPEG noise on black and on white stays within this."""
_THIRD_GREY = 0.02
_SOFT_END = 5
"""A blur that was rounded leaves areas that are black or white but for this."""
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
    solid: dict[Any, int]
    """Value or colour to pixels that have nothing but their like around; of grey masks that 8 bits
    do not hold, value of 255 at their largest."""
    distinct: int
    """Different values or colours."""
    pieces: float
    """Mean number of connected pieces of a value or colour; 0 where none."""
    largest: int
    """Grey masks: largest value."""
    strange: int = 0
    """Colour masks: pixels of areas that have none of the colours that are meant."""

    @property
    def is_blended_binary(self) -> bool:
        """Whether areas are 0 or 255, and other values only lie between them."""
        solid = sum(self.solid.values())
        return self.solid.get(0, 0) + self.solid.get(255, 0) >= 0.98 * solid > 0

    @property
    def is_soft_white(self) -> bool:
        """Whether areas are black or white, white among them, and hardly one lies between.

        Objects by number never are so: those between the first and the last are areas, too, or
        all numbers are high.
        """
        lowest = min(self.values.keys() - {0}, default=0)
        if self.largest / 2 < lowest < self.largest:
            return False
        white = sum(n for v, n in self.solid.items() if v >= 255 - _SOFT_END)
        between = sum(n for v, n in self.solid.items() if _SOFT_END < v < 255 - _SOFT_END)
        return between < 0.02 * white

    @property
    def third_grey(self) -> int | None:
        """Value of areas of a JPEG mask that are neither black nor white, if any."""
        between = {v: n for v, n in self.solid.items() if _GREY_ENDS < v < 255 - _GREY_ENDS}
        if sum(between.values()) < _THIRD_GREY * self.pixels:
            return None
        return int(max(between, key=lambda value: between[value]))

    @property
    def meant(self) -> dict[Colour, int]:
        """Colours that fill areas, or are lines of no blend."""
        areas = {c: n for c, n in self.colours.items() if self._is_area(c)} or self.colours
        lines = {
            c: n
            for c, n in self.colours.items()
            if c not in areas and n >= _COLOUR_SHARE * self.pixels and not _is_blend(c, list(areas))
        }
        return areas | lines

    def _is_area(self, colour: Colour) -> bool:
        return self.solid.get(colour, 0) >= max(_SOLID_PX, _SOLID_SHARE * self.colours[colour])

    @property
    def covered(self) -> float:
        """Part of the pixels whose colour is meant, blends at their edges taken for theirs."""
        return 1 - self.strange / self.pixels


def look_at(path: Path) -> MaskFacts:
    """Read one mask and remember what tells its kind."""
    mask = read_mask(path)
    lossy, pixels = is_lossy(path), mask.shape[0] * mask.shape[1]
    if mask.ndim == 3:
        solid = _solid(mask, 6 if lossy else 0)
        colours = Counter(colour_counts(mask))
        areas = colour_counts(mask[solid][None])
        frequent = _most(colours) | {c: colours[c] for c in _most(Counter(areas))}
        pieces = 0.0 if lossy or len(colours) > 4096 else _pieces_per_value(packed(mask))
        facts = MaskFacts(path, lossy, True, pixels, {}, frequent, areas, len(colours), pieces, 0)
        return replace(facts, strange=decode(mask, list(facts.meant), DEFAULT_TOLERANCE).strange)
    values = _counted(mask)
    pieces = 0.0 if lossy or len(values) > 4096 else _pieces_per_value(mask)
    largest = max(values)
    byte = mask if largest <= 255 else np.rint(mask * (255 / largest)).astype(np.uint8)
    areas_of = dict(_counted(byte[_solid(byte, 6 if lossy else 0)]))
    return MaskFacts(
        path, lossy, False, pixels, _most(values), {}, areas_of, len(values), pieces, largest
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
        if _are_coloured_objects(colour):
            return "instances"
        is_palette = all(item.covered >= _COVERED and not item.lossy for item in colour)
        return "palette" if is_palette else "colour"
    return _grey_form(grey)


def look_like_instances(masks: Sequence[MaskFacts]) -> bool:
    """Tell objects from classes: an object is one piece, and there are many."""
    several = [item for item in masks if item.distinct > 3 and not item.lossy]
    if not several:
        return False
    in_one_piece = sum(item.pieces <= _ONE_PIECE for item in several) >= 0.8 * len(several)
    counted = sum(item.largest == item.distinct - 1 for item in several) >= 0.8 * len(several)
    most = max(item.distinct for item in several)
    return in_one_piece and (most > _MAX_INDEX or (counted and most > 8))


def form_of_labels(masks: Sequence[MaskFacts]) -> str:
    """Name the form of files that are called labels: instances, unless they cannot be.

    Values in several pieces are classes; so are values that are the same in each of many files.
    """
    if any(item.is_colour or item.lossy for item in masks) or _are_classes(masks):
        return detect_form(masks)
    return "instances"


def _are_classes(masks: Sequence[MaskFacts]) -> bool:
    """Tell classes from objects: few values, in several pieces or the same in many files."""
    sets = {frozenset(item.values) for item in masks if item.distinct > 1}
    scattered = sum(item.pieces > _ONE_PIECE for item in masks) > len(masks) / 2
    always_same = len(sets) == 1 and len(masks) >= 3 and len(*sets) > 2
    few = max(item.distinct for item in masks) <= _MAX_INDEX
    return few and (scattered or always_same)


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
        _refuse_third_grey(masks)
        return "binary"
    if len(values) <= 2 and all(item.distinct <= 2 for item in masks):
        return "binary"
    if max(item.largest for item in masks) > 255:
        return _wide_form(masks, values)
    if values <= {0, 1, 255} and not any({1, 255} <= set(item.values) for item in masks):
        return "binary"
    if look_like_instances(masks):
        return "instances"
    if len(values) > _BLURRED and all(item.is_blended_binary for item in masks):
        return "binary"
    if len(values) <= _MAX_INDEX and max(item.distinct for item in masks) <= _MAX_INDEX:
        return "index"
    first = max(masks, key=lambda item: item.distinct)
    raise DataError(
        "The values of a mask are classes or objects. "
        f"Received: {first.distinct} values in {first.path.name}, neither clearly.",
        hint=_FORM_HINT,
    )


def _wide_form(masks: Sequence[MaskFacts], values: set[int]) -> str:
    """Name the form of masks with values that 8 bits do not hold: objects, unless they cannot be.

    A single value in several pieces is the foreground. Where such values differ from file to file,
    as those of 8 and of 16 bit do, each is its file's 1 or white; others are classes. Many values
    that lie only at the edges of white areas are a blur.
    """
    if len(values) > _BLURRED and all(item.is_soft_white for item in masks):
        return "binary"
    several = [item for item in masks if len(item.values.keys() - {0}) > 1]
    if several:
        found = [value for item in several for value in item.values.keys() - {0}]
        is_shared = len(several) == 1 or len(set(found)) < len(found)  # objects have their own
        is_scattered = sum(item.pieces > _ONE_PIECE for item in several) > len(several) / 2
        is_index = len(values) <= _MAX_INDEX and is_scattered and is_shared
        return "index" if is_index else "instances"
    if all(item.pieces <= _ONE_PIECE for item in masks):
        return "instances"
    return "binary" if all(value <= 1 or value >= 255 for value in values) else "index"


def _are_coloured_objects(masks: Sequence[MaskFacts]) -> bool:
    """Tell objects painted in colours of their own: each in one piece, ever new ones."""
    several = [item for item in masks if len(item.meant) > 3 and not item.lossy]
    known = {colour for item in several for colour in item.meant}
    in_one_piece = sum(item.pieces <= _ONE_PIECE for item in several)
    return len(known) > 16 and in_one_piece >= 0.8 * len(masks)


def _refuse_third_grey(masks: Sequence[MaskFacts]) -> None:
    for item in masks:
        if item.lossy and item.third_grey is not None:
            raise DataError(
                "A JPEG mask is black and white. "
                f"Received: {item.path.name} with areas of grey {item.third_grey}.",
                hint="Several classes: export PNG. Else --form binary with --threshold: all above "
                "it is foreground.",
            )


def _solid(mask: NDArray[Any], spread: int) -> NDArray[np.bool_]:
    """Pixels whose neighbours differ from them by no more than ``spread``, shape (H, W)."""
    import cv2

    plain = mask if mask.dtype in (np.uint8, np.uint16) else mask.astype(np.float32)
    square = np.ones((3, 3), np.uint8)
    high, low = cv2.dilate(plain, square), cv2.erode(plain, square)
    flat = high.astype(np.float32) - low <= spread
    return np.asarray(flat.all(-1) if flat.ndim == 3 else flat, bool)


def _counted(values: NDArray[Any]) -> Counter[int]:
    found, counts = np.unique(values, return_counts=True)
    return Counter(dict(zip(map(int, found), counts.tolist(), strict=True)))


def _most(counts: Counter[Any]) -> dict[Any, int]:
    return dict(counts.most_common(_FEW))


def _is_blend(colour: Colour, areas: Sequence[Colour]) -> bool:
    """Tell whether a colour lies between two others."""
    point, ends = np.array(colour, float), np.array(areas, float)
    for start in ends:
        along = ends - start
        length = np.maximum((along**2).sum(-1), 1e-9)
        part = np.clip(((point - start) * along).sum(-1) / length, 0, 1)[:, None]
        if np.linalg.norm(start + part * along - point, axis=-1).min() <= _BLEND:
            return True
    return False


def _pieces_per_value(mask: NDArray[Any]) -> float:
    import cv2

    values = np.unique(mask)
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
