"""Real annotated images, cut into cells that slides are pieced together from.

A cell is a square crop, turned and mirrored, of an image with its class mask and instance labels.
Which crop lies where follows from the seed and the cell's place alone, by integer hashing: not from
the order of drawing, nor from a random generator whose stream may change with its library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellseg.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["CELL_PX", "Kind", "Patch", "PatchLibrary", "hash_of"]

Kind = Literal["auto", "stained", "brightfield", "fluorescence", "all"]
"""``auto``: the first of the three that the folder has."""

CELL_PX = 256
_MAX_LIBRARY_BYTES = 128 << 20
_BRIGHT_MEDIAN = 100
_STAINED_CHROMA = 8
_GLASS = (243, 241, 244)
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Patch:
    """One cell, or one image, with its truth."""

    rgb: NDArray[np.uint8]
    """uint8, shape (h, w, 3)."""

    classes: NDArray[np.uint8]
    """uint8, shape (h, w); 0 is background."""

    labels: NDArray[np.int32]
    """int32, shape (h, w); instances from 1, 0 where the class is 0 or no instance is known."""


class PatchLibrary:
    """Images of one kind, from a folder of ``images/ masks/ labels/``.

    Parameters
    ----------
    folder : Path
        ``images`` and ``masks`` hold files of the same stems. ``labels`` (instances) may lack: the
        connected pieces of a mask are then its instances.
    kind : {"auto", "stained", "brightfield", "fluorescence", "all"}
        Which images are taken, judged by their brightness and colour.

    Attributes
    ----------
    images : list of Patch
        At least one; each with sides of at least ``CELL_PX``.
    background : uint8, shape (3,)
        Colour of the empty slide that fits them.

    Raises
    ------
    DataError
        If the folder lacks images or masks, or they do not fit together.
    """

    def __init__(self, folder: Path, kind: Kind = "auto") -> None:
        kinds = _kinds_of(folder)
        self.kind = _choose(set(kinds.values())) if kind == "auto" else kind
        chosen = [path for path, name in kinds.items() if self.kind in (name, "all")]
        if not chosen:
            raise DataError(
                f"{folder}: no image of this kind is at least {CELL_PX} px to a side. "
                f"Received: kind={kind!r}.",
                hint=f"It holds: {', '.join(sorted(set(kinds.values()))) or 'no usable image'}.",
            )
        self.images = _read_some(folder, chosen)
        self.background = _background(self.images, self.kind)

    def cell(self, seed: int, row: int, col: int) -> Patch:
        """Return the crop that lies at a place of the grid of cells."""
        draw = hash_of(seed, row, col)
        image = self.images[draw % len(self.images)]
        height, width = image.classes.shape
        y0 = (draw >> 16) % (height - CELL_PX + 1)
        x0 = (draw >> 32) % (width - CELL_PX + 1)
        window = np.s_[y0 : y0 + CELL_PX, x0 : x0 + CELL_PX]
        parts = (image.rgb[window], image.classes[window], image.labels[window])
        return Patch(*(_turned(part, draw >> 56) for part in parts))


def hash_of(*numbers: int) -> int:
    """Mix integers to 64 well-spread bits (the finalizer of SplitMix64, once a number)."""
    state = 0
    for number in numbers:
        state = (state + 0x9E3779B97F4A7C15 + number) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def _turned(part: NDArray[Any], draw: int) -> NDArray[Any]:
    turned = np.rot90(part, draw & 3)
    return turned[:, ::-1] if draw & 4 else turned


def _kinds_of(folder: Path) -> dict[Path, str]:
    """Tell the kind of each image that is large enough, in order of their names."""
    files = sorted(path for path in (folder / "images").glob("*") if path.is_file())
    if not files:
        raise DataError(
            f"{folder / 'images'}: no images.", hint="Give a folder of images/ masks/ labels/."
        )
    kinds = {}
    for path in files:
        image = _decode(path)
        if min(image.shape[:2]) >= CELL_PX:
            kinds[path] = _kind_of(image)
    return kinds


def _choose(kinds: set[str]) -> str:
    return next((name for name in ("stained", "brightfield", "fluorescence") if name in kinds), "")


def _read_some(folder: Path, files: list[Path]) -> list[Patch]:
    """Read images with their truth, as many as may be held."""
    images: list[Patch] = []
    held = 0
    for path in files:
        image = _read_one(folder, path)
        held += image.rgb.nbytes + image.classes.nbytes + image.labels.nbytes
        if images and held > _MAX_LIBRARY_BYTES:
            break
        images.append(image)
    return images


def _read_one(folder: Path, path: Path) -> Patch:
    rgb = _decode(path)[..., ::-1]
    mask = _decode(_partner(folder / "masks", path), as_is=True)
    labels_path = _partner(folder / "labels", path, required=False)
    classes = _classes_of(mask)
    if labels_path.is_file():
        labels = np.where(classes > 0, _decode(labels_path, as_is=True), 0).astype(np.int32)
    else:
        labels = _pieces(classes)
    if not rgb.shape[:2] == classes.shape == labels.shape:
        raise DataError(
            f"{path}: image, mask and labels must have the same size. Received: "
            f"image={rgb.shape[:2]}, mask={classes.shape}, labels={labels.shape}."
        )
    return Patch(np.ascontiguousarray(rgb), classes, labels)


def _partner(folder: Path, image: Path, *, required: bool = True) -> Path:
    path = folder / f"{image.stem}.png"
    if required and not path.is_file():
        raise DataError(f"{path}: missing; every image needs a mask of the same stem.")
    return path


def _decode(path: Path, *, as_is: bool = False) -> NDArray[Any]:
    import cv2

    flag = cv2.IMREAD_UNCHANGED if as_is else cv2.IMREAD_COLOR
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), flag)
    if decoded is None or (as_is and decoded.ndim != 2):
        raise DataError(f"{path}: cannot be read as an image of the expected kind.")
    return np.asarray(decoded)


def _classes_of(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """Take 0 and 255 for a binary mask, anything else for class indices."""
    is_binary = bool(np.isin(mask, (0, 255)).all())
    return np.asarray(mask > 0 if is_binary else mask, np.uint8)


def _pieces(classes: NDArray[np.uint8]) -> NDArray[np.int32]:
    import cv2

    return np.asarray(cv2.connectedComponents((classes > 0).astype(np.uint8))[1], np.int32)


def _kind_of(rgb: NDArray[np.uint8]) -> str:
    if np.median(rgb) < _BRIGHT_MEDIAN:
        return "fluorescence"
    chroma = (rgb.max(2).astype(np.int16) - rgb.min(2)).mean()
    return "stained" if chroma >= _STAINED_CHROMA else "brightfield"


def _background(images: list[Patch], kind: str) -> NDArray[np.uint8]:
    """Glass for what is bright; for fluorescence the darkest values that the images share."""
    if kind != "fluorescence":
        return np.array(_GLASS, np.uint8)
    darkest = [np.percentile(image.rgb, 2, axis=(0, 1)) for image in images]
    return np.asarray(np.median(darkest, axis=0), np.uint8)
