"""One image with its annotation, as every reader gives it and the writer takes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.bundles.class_file import MaskClass

__all__ = ["SPLITS", "Annotated", "Change", "Sample"]

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Change:
    """Something that was changed in one image."""

    text: str
    """In words, with ``{n}`` where the number goes."""
    number: int = 0
    """Pixels or objects; summed over images in the report."""

    def __str__(self) -> str:
        return self.text.format(n=self.number)


@dataclass(frozen=True)
class Sample:
    """An image and what was annotated in it."""

    stem: str
    """File name without suffix, unique within the split."""
    split: str
    """"train", "valid", "test", or "" where the source is not split."""
    image: Path | NDArray[Any]
    """A file that is copied as it is, or RGB pixels (H, W, 3)."""
    classes: NDArray[Any]
    """uint8, shape (H, W): class index, 0 = background."""
    labels: NDArray[Any] | None
    """Instance ids, shape (H, W), 0 = background; None where objects were not told apart."""
    origin: str
    """Where it came from, relative to the source."""
    changes: tuple[Change, ...] = ()
    """What was changed, in words."""
    parent: str = ""
    """Name of the image or slide that a tile was cut from."""


@dataclass
class Annotated:
    """A source that was recognized: its classes, and its samples one after the other."""

    form: str
    """Name of the form, as for ``--form``."""
    classes: tuple[MaskClass, ...]
    """Foreground classes; sample class i + 1 is entry i."""
    count: int
    """Samples that `samples` gives."""
    samples: Callable[[], Iterator[Sample]]
    """Reads them lazily."""
    notes: list[str] = field(default_factory=list)
    """What is to be said of the whole."""
