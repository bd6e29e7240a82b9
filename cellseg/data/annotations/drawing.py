"""Objects drawn one after the other into a class map and a label map."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.data.annotations.polygons import fill_polygon
from cellseg.data.form.pairs import IMAGE_SUFFIXES
from cellseg.data.form.sample import Change
from cellseg.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Drawing", "check_stated_size", "inside_source", "is_background", "unlisted"]


class Drawing:
    """Class and instance maps of one image; what is drawn later lies on top, background, too.

    Parameters
    ----------
    hw : (int, int)
        Size of the image.
    """

    def __init__(self, hw: tuple[int, int]) -> None:
        self.classes = np.zeros(hw, np.uint8)
        self.labels = np.zeros(hw, np.int32)
        self.overlapped = 0
        self._next = 0
        self._groups: dict[Hashable, int] = {}

    def add_polygons(
        self,
        polygons: Iterable[Iterable[NDArray[np.float64]]],
        class_index: int,
        group: Hashable = None,
    ) -> None:
        """Draw one object: the union of polygons, each an outline and its holes.

        What has the same group, unless that is None, is one object.
        """
        number = self._begin(group)
        for rings in polygons:
            window, inside = fill_polygon(rings, self.classes.shape)
            self._paint(window, inside, class_index, number)

    def add_mask(self, mask: NDArray[np.bool_], class_index: int, group: Hashable = None) -> None:
        """Draw one object given as a mask of the whole image."""
        self._paint(np.s_[:, :], mask, class_index, self._begin(group))

    def changes(self) -> list[Change]:
        """Return what has to be said of it."""
        said = Change("{n} px of overlap given to the later object", self.overlapped)
        return [said] * bool(self.overlapped)

    def _begin(self, group: Hashable) -> int:
        if group is not None and group in self._groups:
            return self._groups[group]
        self._next += 1
        if group is not None:
            self._groups[group] = self._next
        return self._next

    def _paint(
        self, window: tuple[slice, slice], inside: NDArray[np.bool_], class_index: int, number: int
    ) -> None:
        labels = self.labels[window]
        self.overlapped += int(np.count_nonzero(inside & (labels > 0) & (labels != number)))
        labels[inside] = number if class_index else 0
        self.classes[window][inside] = class_index


def is_background(name: str) -> bool:
    """Tell whether a class is what is no cell, which has a value of its own in every mask."""
    return name.lower() == "background"


def check_stated_size(
    file: Path, name: str, pixels: NDArray[Any], width: int | None, height: int | None
) -> None:
    """Refuse annotations that were drawn on the image at another size."""
    found = (pixels.shape[1], pixels.shape[0])
    if width and height and (int(width), int(height)) != found:
        raise DataError(
            f"Annotations fit their image, {name} of {found[0]} x {found[1]} px. "
            f"Received: {file.name}, which says {width} x {height}.",
            hint="They were drawn on the image at another size: give that one.",
        )


def unlisted(images: Sequence[Path]) -> list[str]:
    """Say how many images beside the annotated ones no annotation names."""
    listed = {path.resolve() for path in images}
    beside = [path for folder in {p.parent for p in listed} for path in sorted(folder.iterdir())]
    left = [p for p in beside if p.suffix.lower() in IMAGE_SUFFIXES and p not in listed]
    some = ", ".join(path.name for path in left[:3]) + (", ..." if len(left) > 3 else "")
    return [f"{len(left)} images that no annotation names are left out ({some})"] * bool(left)


def inside_source(root: Path, base: Path, name: str) -> Path:
    """Find the image that an annotation names: beside it, in ``images/``, or by its file name.

    Raises
    ------
    DataError
        If no such file lies inside the source.
    """
    plain = name.replace("\\", "/")
    last = plain.rsplit("/", 1)[-1]
    tries = [base / plain, base / "images" / plain, root / plain, root / "images" / last]
    for path in tries:
        if path.is_file() and path.resolve().is_relative_to(root.resolve()):
            return path
    found = sorted(path for path in root.rglob(glob.escape(last)) if path.is_file()) if last else []
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} files of that name" if found else "no such file"
    raise DataError(
        f"An annotation names an image inside the source. Received: {name!r}, {problem} in {root}.",
        hint="Put the images beside the annotation file, or into images/.",
    )
