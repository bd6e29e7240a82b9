"""Images and slides that representative tiles are cut from, and places in them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellseg.errors import SlideError
from cellseg.runtime.evaluation.labelled import IMAGE_SUFFIXES, find_images
from cellseg.runtime.inputs import SLIDE_SUFFIXES
from cellseg.runtime.slides.ngff import is_zarr_folder
from cellseg.runtime.slides.readers import missing_file, open_slide
from cellseg.runtime.tissue.mask import TissueMask, find_tissue
from cellseg.runtime.view.normalize import measure_slide
from cellseg.runtime.view.working import WorkingView

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cellseg.runtime.slides.slide import Slide
    from cellseg.runtime.view.normalize import Normalize

__all__ = ["View", "find_sources", "views_of"]

_LOG = logging.getLogger(__name__)
_SLIDES = SLIDE_SUFFIXES - IMAGE_SUFFIXES  # those a folder of images never held
_OVERLAPPING = 3  # tiles of an image that holds fewer side by side
_LEAST_TISSUE = 0.5  # of a tile of a slide


def find_sources(path: Path) -> list[Path]:
    """Return the images and slides that a path names: itself, or what lies in a folder.

    Raises
    ------
    SlideError
        If there is no such file or folder.
    """
    if not path.exists():
        raise missing_file(path)
    if not path.is_dir() or is_zarr_folder(path):
        return [path]
    images = find_images(path)
    slides = [file for file in path.rglob("*") if file.suffix.lower() in _SLIDES]
    return sorted([*images, *_one_each(slides)])


@dataclass(frozen=True)
class View:
    """An image as the model sees it."""

    pixels: WorkingView
    """Intensity range applied, to scale."""

    tissue: TissueMask | None = None
    """Of a slide."""

    @property
    def is_slide(self) -> bool:
        """Whether it is a slide rather than a photo."""
        return self.tissue is not None

    def read(self, y: int, x: int, tile_px: int) -> NDArray[np.uint8]:
        """Read a tile, (tile_px, tile_px, 3); the border is repeated past the image."""
        return self.pixels.read(y, x, tile_px, tile_px)

    def anywhere(
        self, tile_px: int, count: int, rng: np.random.Generator
    ) -> Iterator[tuple[int, int]]:
        """Yield random places, which may overlap; fewer where the image has fewer."""
        rows, cols = (max(1, size - tile_px + 1) for size in self.pixels.hw)
        side_by_side = math.prod(max(1, size // tile_px) for size in self.pixels.hw)
        for _ in range(min(count, rows * cols, max(_OVERLAPPING, side_by_side))):
            yield int(rng.integers(rows)), int(rng.integers(cols))

    def grid(self, tile_px: int, count: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Yield places side by side in random order; of a slide, those on tissue."""
        rows, cols = (max(1, size // tile_px) for size in self.pixels.hw)
        for index in rng.permutation(rows * cols):
            y, x = (int(place) * tile_px for place in divmod(int(index), cols))
            if count > 0 and self._is_on_tissue(y, x, tile_px):
                count -= 1
                yield y, x

    def _is_on_tissue(self, y: int, x: int, tile_px: int) -> bool:
        if self.tissue is None:
            return True
        (top, left), (bottom, right) = (
            [int(place / scale) for place, scale in zip(yx, self.tissue.wl_per_mask, strict=True)]
            for yx in ((y, x), (y + tile_px, x + tile_px))
        )
        part = self.tissue.mask[top : max(bottom, top + 1), left : max(right, left + 1)]
        return bool(part.size and part.mean() >= _LEAST_TISSUE)


def views_of(
    path: Path,
    normalize: Normalize,
    fits: Sequence[tuple[int, int] | None],
    mpp: float | None,
) -> Iterator[View]:
    """Open an image, or a slide, and yield it at each scale at which the network will see it.

    What cannot be read is passed over, and said.

    Parameters
    ----------
    path : Path
        The file, or an OME-Zarr folder.
    normalize : Normalize
        Intensity range, measured over the whole image.
    fits : sequence of (int, int) or None
        Sizes to fit; None: its own scale, of a slide the model's.
    mpp : float or None
        The model's microns per pixel.
    """
    try:
        slide = open_slide(path)
    except SlideError as error:
        _LOG.warning("representative images: %s left out: %s", path, error)
        return
    try:
        for fit_hw in fits:
            yield _view(slide, normalize, fit_hw, mpp)
    except SlideError as error:
        _LOG.warning("representative images: %s left out: %s", path, error)
    finally:
        slide.close()


def _view(
    slide: Slide, normalize: Normalize, fit_hw: tuple[int, int] | None, mpp: float | None
) -> View:
    is_slide = slide.kind == "slide"
    own_mpp = mpp if is_slide and slide.mpp is not None else None
    pixels = WorkingView(slide, own_mpp, fit_hw=fit_hw).in_range(measure_slide(slide, normalize))
    return View(pixels, find_tissue(slide, pixels.hw) if is_slide and fit_hw is None else None)


def _one_each(slides: list[Path]) -> list[Path]:
    """Of the files of a DICOM slide the first stands for all in its folder."""
    first: dict[Path, Path] = {}
    for path in sorted(slides):
        first.setdefault(path.parent if path.suffix.lower() == ".dcm" else path, path)
    return list(first.values())
