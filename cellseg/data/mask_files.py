"""Masks as image files: binary, index, palette, cut-out and instance masks, JPEG or not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.pairs import split_of, unique_stems
from cellseg.data.palette import DEFAULT_TOLERANCE, decode, parse_palette
from cellseg.data.pixels import is_lossy, png_palette, read_image, read_mask
from cellseg.data.sample import Annotated, Change, Sample
from cellseg.data.survey import MaskFacts, detect_form, find_palette, look_at
from cellseg.errors import DataError
from cellseg.runtime.class_file import MaskClass, find_class_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cellseg.data.pairs import Pair
    from cellseg.runtime.class_file import ClassFile

__all__ = ["MASK_FORMS", "MaskOptions", "default_classes", "image_or_pixels", "read_mask_files"]

MASK_FORMS = ("binary", "index", "palette", "cutout", "instances")

_CUTOUT_DIFFERENCE = 12.0
"""Mean difference, of 255, between a cut-out and its image where the cut-out is not black."""
_MAX_OFF = 0.05
_JPEG_BLACK = 24
_COLOURS = (
    (255, 80, 80), (60, 200, 90), (70, 130, 255), (255, 210, 60), (200, 90, 255),
    (60, 220, 220), (255, 140, 40), (255, 120, 200), (140, 200, 40), (160, 160, 160),
)  # fmt: skip
_PLAIN_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}


@dataclass(frozen=True)
class MaskOptions:
    """How masks are to be read, where the user says so."""

    class_names: tuple[str, ...] = ()
    """Foreground classes in order of value, or of the palette."""
    palette: str = ""
    """``name=#rrggbb,...``: the foreground colours, named."""
    tolerance: float = DEFAULT_TOLERANCE
    """Largest distance of a pixel to its palette colour."""
    threshold: int = 127
    """Grey value above which a pixel of a binary, cut-out or JPEG mask is foreground."""


def read_mask_files(
    pairs: Sequence[Pair], root: Path, form: str, options: MaskOptions
) -> Annotated:
    """Recognize masks and return a reader of their samples.

    Parameters
    ----------
    pairs : sequence of Pair
        Images with masks, labels, or both.
    root : Path
        The source.
    form : str
        "auto" or one of `MASK_FORMS`.
    options : MaskOptions
        What the user said.

    Raises
    ------
    DataError
        If the masks contradict each other or the options.
    """
    with_mask = [pair for pair in pairs if pair.mask is not None]
    if not with_mask:  # labels/ only: objects of one class
        decoder: _Decoder = _Labels(default_classes(1, options.class_names))
        return _annotated("instances", pairs, root, decoder)
    if len(with_mask) < len(pairs):
        lacking = next(pair for pair in pairs if pair.mask is None)
        raise DataError(
            "Either all images have masks, or all have labels only. "
            f"Received: no mask for {'/'.join(lacking.key)}."
        )
    facts = [look_at(pair.mask) for pair in with_mask if pair.mask is not None]
    known = find_class_file(root)
    told = "index" if known is not None and known.encoding == "index" else None
    found = form if form != "auto" else told or detect_form(facts)
    if found in ("colour", "palette") and form == "auto":
        found = _cutout_or_palette(found, with_mask, facts, options)
    decoder = _decoder(found, facts, known, options)
    return _annotated(found, pairs, root, decoder)


def default_classes(count: int, names: Sequence[str]) -> tuple[MaskClass, ...]:
    """Name and colour foreground classes.

    Raises
    ------
    DataError
        If there are names, but not one for each class.
    """
    if names and len(names) != count:
        raise DataError(
            f"--classes names each foreground class once. Received: {list(names)} for {count}."
        )
    plain = ["cell"] if count == 1 else [f"class {index + 1}" for index in range(count)]
    return tuple(
        MaskClass(index + 1, name, _COLOURS[index % len(_COLOURS)])
        for index, name in enumerate(names or plain)
    )


def image_or_pixels(path: Path) -> tuple[Path | NDArray[Any], NDArray[Any]]:
    """Return what is written, the file itself where it is a plain one, and its pixels."""
    pixels = read_image(path)
    return (path if path.suffix.lower() in _PLAIN_SUFFIXES else pixels), pixels


class _Decoder:
    """Turns one mask into class indices; knows its classes."""

    def __init__(self, classes: tuple[MaskClass, ...], notes: Sequence[str] = ()) -> None:
        self.classes, self.notes = classes, list(notes)

    def __call__(
        self, mask: NDArray[Any], pair: Pair
    ) -> tuple[NDArray[np.uint8], NDArray[Any] | None, list[Change]]:
        """Classes, instance ids if the mask has them, and what was changed."""
        raise NotImplementedError


class _Labels(_Decoder):
    """Every value above 0 is an object of the only class."""

    def __call__(
        self, mask: NDArray[Any], pair: Pair
    ) -> tuple[NDArray[np.uint8], NDArray[Any] | None, list[Change]]:
        if mask.ndim == 3:  # ids in three bytes, as some programs colour them
            wide = mask.astype(np.int64)
            mask = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        return (mask > 0).astype(np.uint8), mask, []


class _Threshold(_Decoder):
    """Above the threshold is foreground; masks of 0 and 1 are taken as they are."""

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
        grey = mask.max(-1) if mask.ndim == 3 else mask
        if self._cutout:
            assert pair.mask is not None
            said = Change("outline taken from a cut-out")
            return _cut_out(grey, is_lossy(pair.mask)), None, [said]
        classes = (grey > self._threshold).astype(np.uint8)
        between = int(np.count_nonzero((grey > 0) & (grey < grey.max())))
        said = Change(f"thresholded at {self._threshold}: {{n}} px between", between)
        return classes, None, [said] * bool(between)


class _Index(_Decoder):
    """Values are classes, by a table."""

    def __init__(self, classes: tuple[MaskClass, ...], values: Sequence[int]) -> None:
        super().__init__(classes)
        self._table = np.zeros(256, np.uint8)
        for index, value in enumerate(values, start=1):
            self._table[value] = index
        self._known = {0, *values}
        if list(values) != list(range(1, len(values) + 1)):
            self.notes.append(f"values {list(values)} became 1..{len(values)}")

    def __call__(
        self, mask: NDArray[Any], pair: Pair
    ) -> tuple[NDArray[np.uint8], NDArray[Any] | None, list[Change]]:
        strange = sorted(set(np.unique(mask).tolist()) - self._known)
        if strange or mask.ndim != 2:
            raise DataError(
                f"A mask holds the values of its classes, {sorted(self._known)}. "
                f"Received: {strange[:8]} in {pair.mask}.",
                hint="Its classes.json, or --form, does not fit.",
            )
        return self._table[mask], None, []


class _Palette(_Decoder):
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
        colour = mask if mask.ndim == 3 else np.repeat(mask[..., None], 3, -1)
        found = decode(colour, self._palette, self._tolerance)
        if found.off > _MAX_OFF * found.classes.size:
            raise DataError(
                f"A mask has the colours of its palette, {self._palette}. Received: {pair.mask} "
                f"with {found.off / found.classes.size:.0%} of its pixels farther than "
                f"{self._tolerance:g} from any: a second palette?",
                hint="Import it apart, name its colours with --palette, or raise --tolerance.",
            )
        near = Change("{n} px near a palette colour, taken for it", found.near)
        off = Change("{n} px off the palette, given to the nearest class", found.off)
        return found.classes, None, [near] * bool(found.near) + [off] * bool(found.off)


def _decoder(
    form: str, facts: Sequence[MaskFacts], known: ClassFile | None, options: MaskOptions
) -> _Decoder:
    names = options.class_names
    if form == "instances":
        decoder: _Decoder = _Labels(default_classes(1, names))
    elif form in ("binary", "cutout"):
        named = [c for c in known.classes if c.value > 0] if known and form == "binary" else []
        classes = default_classes(1, names)
        if len(named) == 1 and not names:
            classes = (replace(named[0], value=1),)
        top = max((item.largest for item in facts), default=255)
        if form == "cutout":
            top = 255
        decoder = _Threshold(classes, options.threshold, top, form == "cutout")
    elif form == "palette":
        decoder = _palette_decoder(facts, options)
    elif known is not None and known.encoding == "index":
        named = [c for c in known.classes if c.value > 0]
        decoder = _Index(tuple(named), [c.value for c in named])
        decoder.classes = tuple(replace(c, value=i) for i, c in enumerate(named, start=1))
    else:
        values = sorted({value for item in facts for value in item.values} - {0})
        decoder = _Index(default_classes(len(values), names), values)
    return decoder


def _palette_decoder(facts: Sequence[MaskFacts], options: MaskOptions) -> _Palette:
    if options.palette:
        named = parse_palette(options.palette)
        background = named.pop("background", (0, 0, 0))
        colours, notes = [background, *named.values()], list[str]()
        names: Sequence[str] = tuple(named)
    else:
        if any(item.lossy for item in facts):
            raise DataError(
                "The colours of JPEG masks are blurred and must be named. "
                f"Received: {facts[0].path.name}.",
                hint="e.g. --palette 'nucleus=#ff0000,cytoplasm=#00ff00'.",
            )
        colours, notes = find_palette(facts)
        colours = _in_file_order(facts, colours)
        names = options.class_names
    classes = default_classes(len(colours) - 1, names)
    painted = tuple(replace(c, color=rgb) for c, rgb in zip(classes, colours[1:], strict=True))
    return _Palette(painted, colours[0], options.tolerance, notes)


def _in_file_order(
    facts: Sequence[MaskFacts], colours: list[tuple[int, int, int]]
) -> list[tuple[int, int, int]]:
    """Order foreground colours as a palette PNG lists them, else by value."""
    table = next(filter(None, (png_palette(item.path) for item in facts)), [])
    listed = [c for c in table if c in colours[1:]]
    rest = sorted(c for c in colours[1:] if c not in listed)
    return [colours[0], *dict.fromkeys(listed), *rest]


def _cutout_or_palette(
    found: str, pairs: Sequence[Pair], facts: Sequence[MaskFacts], options: MaskOptions
) -> str:
    """Tell a cut-out from a palette: a cut-out shows its image where it is not black."""
    step = max(1, len(pairs) // 8)
    shown = [_is_cutout(pair, options.threshold) for pair in pairs[::step]]
    if sum(shown) > len(shown) / 2:
        return "cutout"
    if found == "palette" or options.palette:
        return "palette"
    if all(item.lossy for item in facts):
        grey = [_is_nearly_grey(pair) for pair in pairs[::step]]
        return "binary" if all(grey) else "palette"
    raise DataError(
        "Coloured masks have few colours, or show their image on black. "
        f"Received: {facts[0].distinct} colours in {facts[0].path.name}.",
        hint="Name the colours with --palette name=#rrggbb,..., or say --form.",
    )


def _is_cutout(pair: Pair, threshold: int) -> bool:
    assert pair.mask is not None
    mask, image = read_mask(pair.mask), read_image(pair.image)
    if mask.shape != image.shape or image.dtype != np.uint8:
        return False
    shown = mask.max(-1) > min(threshold, 60)
    if not shown.any() or shown.all():
        return False
    difference = np.abs(mask[shown].astype(np.int16) - image[shown])
    return float(difference.mean()) < _CUTOUT_DIFFERENCE


def _is_nearly_grey(pair: Pair) -> bool:
    assert pair.mask is not None
    mask = read_mask(pair.mask)
    return mask.ndim == 2 or float(np.ptp(mask.astype(np.int16), axis=-1).mean()) < 8


def _cut_out(grey: NDArray[Any], lossy: bool) -> NDArray[np.uint8]:
    """Foreground of a cut-out: what is not black; in a JPEG black is noisy, and cells are whole."""
    import cv2

    if not lossy:
        return (grey > 0).astype(np.uint8)
    shown = (grey > _JPEG_BLACK).astype(np.uint8)
    opened = cv2.morphologyEx(shown, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(opened), outlines, -1, 1, cv2.FILLED))


def _annotated(form: str, pairs: Sequence[Pair], root: Path, decoder: _Decoder) -> Annotated:
    stems = unique_stems([pair.key for pair in pairs])

    def samples() -> Iterator[Sample]:
        for pair in pairs:
            yield _sample(pair, stems[pair.key], root, decoder)

    return Annotated(form, decoder.classes, len(pairs), samples, decoder.notes)


def _sample(pair: Pair, stem: str, root: Path, decoder: _Decoder) -> Sample:
    image, pixels = image_or_pixels(pair.image)
    source = pair.mask or pair.labels
    assert source is not None
    classes, labels, changes = decoder(_fitting(source, pixels), pair)
    if pair.mask is not None and pair.labels is not None:
        labels = _fitting(pair.labels, pixels)
    if not isinstance(image, Path):
        changes.append(Change("image rewritten as PNG"))
    if labels is None:
        changes.append(Change("labels are connected pieces of the mask"))
    return Sample(
        stem=stem,
        split=split_of(pair.key[:-1]),
        image=image,
        classes=classes,
        labels=labels,
        origin=pair.image.relative_to(root).as_posix(),
        changes=tuple(changes),
    )


def _fitting(path: Path, image: NDArray[Any]) -> NDArray[Any]:
    mask = read_mask(path)
    if mask.shape[:2] != image.shape[:2]:
        raise DataError(
            f"A mask has the size of its image, {image.shape[1]} x {image.shape[0]} px. "
            f"Received: {path} with {mask.shape[1]} x {mask.shape[0]}.",
            hint="Export it again at the image's size; resizing would move its edges.",
        )
    return mask
