"""``[[sources]]``, ``[[classes]]``, ``[input]``, ``[mask]``, ``[normalize]``: images and masks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from cellseg.train.sections.base import Byte, Color, Section

__all__ = [
    "ClassRecipe",
    "FolderPair",
    "InputRecipe",
    "MaskRecipe",
    "NormalizeRecipe",
    "SourceRecipe",
]


class FolderPair(Section):
    """Images and masks of one split, paired by file name without suffix."""

    images: str = Field(description="folder of images, relative to --data")
    masks: str = Field(description="folder of masks, relative to --data")


class SourceRecipe(Section):
    """Where images come from: ``path`` with its splits, or the folders of each split by name."""

    name: str = Field(description="name in reports")
    path: str | None = Field(
        None,
        description="folder, relative to --data, of train|valid|test/images and /masks or /labels; "
        "or of images/ and masks/ alone, which are then split",
    )
    train: FolderPair | None = Field(None, description="training folders, instead of path")
    valid: FolderPair | None = Field(None, description="validation folders, instead of path")
    test: FolderPair | None = Field(None, description="test folders, instead of path")
    valid_part: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="part of the training images to validate on, where no folder is named, 0..1",
    )
    test_part: float = Field(
        0.0, ge=0, lt=1, description="part of them to test on, where no folder is named, 0..1"
    )
    weight: float = Field(1.0, gt=0, description="share of the training crops, relative")
    draw: Literal["evenly", "by-objects"] = Field(
        "evenly",
        description="how often an image gives a crop: evenly, as any other; by-objects, by "
        "the root of the number of its objects (target.kind instances)",
    )
    table: str | None = Field(None, description="CSV beside the splits with a `stem` column")
    column: str | None = Field(None, description="column of that table to select by")
    values: tuple[str, ...] = Field((), description="values of that column to take")
    without: tuple[str, ...] = Field((), description="file names, without suffix, to leave out")
    background: bool = Field(
        False,
        description="its training images show none of the classes: no masks, no other split "
        "(target.kind classes)",
    )

    @model_validator(mode="after")
    def _has_a_place(self) -> SourceRecipe:
        if (self.path is None) == (self.train is None):
            raise ValueError(
                "a source has either a path or a [sources.train] with images and masks"
            )
        return self


class ClassRecipe(Section):
    """One class of a mask; the first is background."""

    name: str = Field(min_length=1, description="name in reports and in the bundle")
    color: Color = Field(description="RGB colour in pictures and in the bundle, 0..255")
    values: tuple[Byte, ...] = Field(
        (), description="mask values that mean it; by default its place in the list"
    )
    mask_colors: tuple[Color, ...] = Field(
        (), description="RGB colours that mean it, in masks of colours; the nearest one counts"
    )
    optional: bool = Field(
        False,
        description="may be missing from the training masks: its channel is there, and learns to "
        "stay empty",
    )


class InputRecipe(Section):
    """What the network sees: one preparation for training, evaluation and inference.

    Gamma, sharpening and colour are fixed layers at the front of the network, in this order, so
    that every exported file holds them.
    """

    size_px: tuple[int, int] = Field((512, 512), description="width and height of an input, px")
    fit: Literal["whole", "native", "both"] = Field(
        "whole",
        description="whole: an image is scaled, its aspect kept, until it fits the size; native: "
        "crops of that size at the image's own scale; both: half of the crops each. The bundle "
        "does the same; slides it reads by bundle.mpp, or refuses (whole without mpp)",
    )
    color: Literal["rgb", "bgr", "gray", "xyz", "ycrcb", "yuv", "hsv", "lab"] = Field(
        "rgb", description="colour space that the network works in, as OpenCV gives 8-bit images"
    )
    gamma: float = Field(
        1.0, gt=0, le=10, description="grey values v become 255 (v / 255) ** gamma; 1: as they are"
    )
    sharpen: float = Field(
        0.0, ge=0, le=10, description="strength k of a 3x3 sharpening: centre 1 + 8k, rest -k"
    )


class MaskRecipe(Section):
    """How a grey mask becomes foreground and background."""

    threshold: Byte | None = Field(
        None,
        description="foreground is above this grey value, 0..255; by default Otsu's value over all "
        "training masks",
    )
    blur_px: int = Field(0, ge=0, description="side of a Gaussian blur before that, px; 0: none")


class NormalizeRecipe(Section):
    """How intensities are brought to 0..255 before the network, as in the bundle."""

    kind: Literal["none", "slide-percentile"] = Field("slide-percentile", description="method")
    low: float = Field(0.5, ge=0, le=100, description="percentile that becomes 0")
    high: float = Field(99.8, ge=0, le=100, description="percentile that becomes 255")
