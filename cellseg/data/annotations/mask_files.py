"""Masks as image files: binary, index, palette, cut-out and instance masks, JPEG or not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.annotations.mask_decoders import (
    Colours,
    Decoder,
    Numbers,
    Objects,
    Threshold,
    black_of,
)
from cellseg.data.annotations.palette import DEFAULT_TOLERANCE, parse_palette
from cellseg.data.annotations.survey import (
    MaskFacts,
    detect_form,
    find_palette,
    form_of_labels,
    look_at,
    look_like_instances,
)
from cellseg.data.form.pairs import split_of, unique_stems
from cellseg.data.form.pixels import is_lossy, read_image, read_mask
from cellseg.data.form.sample import Annotated, Change, Sample
from cellseg.errors import DataError
from cellseg.runtime.bundles.class_file import MaskClass, find_class_file
from cellseg.runtime.slides.png_palette import png_palette

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cellseg.data.form.pairs import Pair
    from cellseg.runtime.bundles.class_file import ClassFile

__all__ = ["MASK_FORMS", "MaskOptions", "default_classes", "image_or_pixels", "read_mask_files"]

MASK_FORMS = ("binary", "index", "palette", "cutout", "instances")

_CUTOUT_DIFFERENCE = 12.0
"""Mean difference, of 255, between a cut-out and its image where the cut-out is not black."""
_MANY_CLASSES = 10
_MANY_VALUES = 16
"""With more values or colours than this a mask may be a picture."""
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
    if with_mask and len(with_mask) < len(pairs):
        lacking = next(pair for pair in pairs if pair.mask is None)
        raise DataError(
            "Either all images have masks, or all have labels only. "
            f"Received: no mask for {'/'.join(lacking.key)}."
        )
    if not with_mask:
        return _read_labels_only(pairs, root, form, options)
    facts = [look_at(pair.mask) for pair in with_mask if pair.mask is not None]
    known = find_class_file(root)
    told = "index" if known is not None and known.encoding == "index" else None
    found = form if form != "auto" else told or _recognized(with_mask, facts, options)
    return _annotated(found, pairs, root, _decoder(found, facts, known, options))


def _read_labels_only(
    pairs: Sequence[Pair], root: Path, form: str, options: MaskOptions
) -> Annotated:
    """Read ``labels/`` without ``masks/``: objects as a rule, but some name their masks so."""
    facts = [look_at(pair.labels) for pair in pairs if pair.labels is not None]
    found = form if form != "auto" else form_of_labels(facts)
    decoder = _decoder(found, facts, None, options)
    if form == "auto" and found != "instances":
        decoder.notes.append(f"labels/ hold masks: taken as {found}, not as objects")
    as_masks = [replace(pair, mask=pair.labels, labels=None) for pair in pairs]
    return _annotated(found, as_masks, root, decoder)


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


def _decoder(
    form: str, facts: Sequence[MaskFacts], known: ClassFile | None, options: MaskOptions
) -> Decoder:
    names = options.class_names
    if form == "instances":
        decoder: Decoder = Objects(default_classes(1, names))
    elif form in ("binary", "cutout"):
        named = [c for c in known.classes if c.value > 0] if known and form == "binary" else []
        classes = default_classes(1, names)
        if len(named) == 1 and not names:
            classes = (replace(named[0], value=1),)
        top = max((item.largest for item in facts), default=255)
        if form == "cutout":
            top = 255
        decoder = Threshold(classes, options.threshold, top, form == "cutout")
    elif form == "palette":
        decoder = _palette_decoder(facts, options)
    elif known is not None and known.encoding == "index":
        named = [c for c in known.classes if c.value > 0]
        decoder = Numbers(tuple(named), [c.value for c in named])
        decoder.classes = tuple(replace(c, value=i) for i, c in enumerate(named, start=1))
    else:
        if any(item.lossy for item in facts):
            raise DataError(
                "Class numbers do not survive JPEG. Received: --form index for "
                f"{facts[0].path.name}.",
                hint="Export the masks as PNG.",
            )
        values = sorted({value for item in facts for value in item.values} - {0})
        decoder = Numbers(default_classes(len(values), names), values)
    return decoder


def _palette_decoder(facts: Sequence[MaskFacts], options: MaskOptions) -> Colours:
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
        if len(colours) > _MANY_CLASSES:
            notes.append(
                f"{len(colours) - 1} colours became classes; if each is an object, --form instances"
            )
        names = options.class_names
    classes = default_classes(len(colours) - 1, names)
    painted = tuple(replace(c, color=rgb) for c, rgb in zip(classes, colours[1:], strict=True))
    return Colours(painted, colours[0], options.tolerance, notes)


def _in_file_order(
    facts: Sequence[MaskFacts], colours: list[tuple[int, int, int]]
) -> list[tuple[int, int, int]]:
    """Order foreground colours as a palette PNG lists them, else by value."""
    table = next(filter(None, (png_palette(item.path.read_bytes()) for item in facts)), [])
    listed = [c for c in table if c in colours[1:]]
    rest = sorted(c for c in colours[1:] if c not in listed)
    return [colours[0], *dict.fromkeys(listed), *rest]


def _recognized(pairs: Sequence[Pair], facts: Sequence[MaskFacts], options: MaskOptions) -> str:
    """Name the form; a cut-out shows its image where it is not black."""
    if options.palette:
        return "palette"
    step = max(1, len(pairs) // 8)
    many = max(item.distinct for item in facts) > _MANY_VALUES
    grey = [item for item in facts if not item.is_colour]
    if many and not look_like_instances(grey):
        shown = [_is_cutout(pair) for pair in pairs[::step]]
        if sum(shown) > len(shown) / 2:
            return "cutout"
    found = detect_form(facts)
    if found != "colour":
        return found
    if all(item.lossy for item in facts):
        return "binary" if all(map(_is_nearly_grey, pairs[::step])) else "palette"
    raise DataError(
        "Coloured masks have few colours, or show their image on black. "
        f"Received: {facts[0].distinct} colours in {facts[0].path.name}.",
        hint="Name the colours with --palette name=#rrggbb,..., or say --form.",
    )


def _is_cutout(pair: Pair) -> bool:
    assert pair.mask is not None
    mask, image = read_mask(pair.mask), read_image(pair.image)
    if mask.shape[:2] != image.shape[:2] or image.dtype != np.uint8 or mask.dtype != np.uint8:
        return False
    lossy, is_grey = is_lossy(pair.mask), mask.ndim == 2
    if is_grey:
        image = image.max(-1)
    grey = mask if is_grey else mask.max(-1)
    shown = grey > (black_of(grey) if lossy else 0)
    if not shown.any() or shown.all():
        return False
    difference = np.abs(mask[shown].astype(np.int16) - image[shown])
    # Numbers of objects, too, can be near the values of a dark image, but not the same.
    most = _CUTOUT_DIFFERENCE if lossy or not is_grey else 1.0
    return float(difference.mean()) < most


def _is_nearly_grey(pair: Pair) -> bool:
    assert pair.mask is not None
    mask = read_mask(pair.mask)
    return mask.ndim == 2 or float(np.ptp(mask.astype(np.int16), axis=-1).mean()) < 8


def _annotated(form: str, pairs: Sequence[Pair], root: Path, decoder: Decoder) -> Annotated:
    stems = unique_stems([pair.key for pair in pairs])

    def samples() -> Iterator[Sample]:
        for pair in pairs:
            yield _sample(pair, stems[pair.key], root, decoder)

    return Annotated(form, decoder.classes, len(pairs), samples, decoder.notes)


def _sample(pair: Pair, stem: str, root: Path, decoder: Decoder) -> Sample:
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
