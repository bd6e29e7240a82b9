"""What speaks against taking a slide as its file says, or its cells as they were found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.slides.magnification import pixel_size_doubt
from cellseg.runtime.slides.orientation import orientation_doubt
from cellseg.runtime.slides.slide import DISBELIEVED, OTHER_IMAGES
from cellseg.runtime.view.painted_stain import COLOURS, empty_channels
from cellseg.runtime.view.working import MOST_COARSER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.bundles.manifest import ModelCard
    from cellseg.runtime.slides.slide import Slide
    from cellseg.runtime.view.working import WorkingView

__all__ = [
    "coarse_doubt",
    "flat_doubt",
    "painted_doubt",
    "slide_doubts",
    "small_cells_doubt",
    "small_doubt",
]

_MOST_OBLONG = 1.1
_FEW_VALUES = 12  # dim fluorescence that was labelled spans 15 and more
_FEW_CELLS = 20
_ENLARGED = 2.0  # as bench/enlarged.py has it


def slide_doubts(slide: Slide, *, needs_mpp: bool = True) -> list[str]:
    """Say what speaks against a slide.

    Parameters
    ----------
    slide : Slide
        Its pixel size and ``properties`` count; no pixel is read.
    needs_mpp : bool
        False for models of any pixel size, for which that of the slide does not matter.

    Returns
    -------
    list of str
        A sentence each; empty where nothing does.
    """
    size = (pixel_size_doubt(slide), _oblong_doubt(slide), _disbelief(slide)) if needs_mpp else ()
    found = (*size, orientation_doubt(slide), _other_images_doubt(slide))
    return [doubt for doubt in found if doubt is not None]


def coarse_doubt(slide: Slide, model_mpp: float | None) -> str | None:
    """Say that a slide's pixels are too large for what a model looks for.

    Parameters
    ----------
    slide : Slide
        Its pixel size counts.
    model_mpp : float or None
        Microns per pixel that the model wants; None: any.

    Returns
    -------
    str or None
        One sentence; None up to ``MOST_COARSER`` times the model's, to which a slide is enlarged.
    """
    if slide.mpp is None or model_mpp is None:
        return None
    mpp = math.sqrt(slide.mpp[0] * slide.mpp[1])
    if mpp <= MOST_COARSER * model_mpp:
        return None
    return (
        f"{slide.path}: its pixels are {mpp / model_mpp:.0f} times as large as the model's: what "
        "the model looks for cannot be seen in it, and the result means nothing. Received: slide "
        f"mpp={mpp:g}, model mpp={model_mpp:g}. This is an overview, or its pixel size is wrong; "
        "if so, give the right one with --mpp."
    )


def flat_doubt(slide: Slide, value_range: tuple[float, float]) -> str | None:
    """Say that what is seen of a slide is next to nothing, brought to the range of a picture.

    Parameters
    ----------
    slide : Slide
        For its path.
    value_range : (float, float)
        Values that the model sees as 0 and 255.

    Returns
    -------
    str or None
        One sentence or two; None from a dozen values on, and of a blank image, which stays blank.
    """
    low, high = value_range
    if not 0 < high - low < _FEW_VALUES:
        return None
    return (
        f"{slide.path}: nearly all of its values lie from {low:.0f} to {high:.0f}: that is empty "
        "glass, or out of focus, or far too dark. It is brought to full contrast, and what is "
        "found may be noise."
    )


def painted_doubt(slide: Slide, counts: NDArray[np.int64]) -> str | None:
    """Say that stains are painted in colours, which models of grey ones do not know.

    One stain in one colour is seen as grey, and no doubt: :func:`painted_stain.painted_channel`.

    Parameters
    ----------
    slide : Slide
        For its path.
    counts : int64, shape (3, n)
        How often each value occurs in red, green and blue, from
        :func:`cellseg.runtime.view.value_counts.count_samples`.

    Returns
    -------
    str or None
        One sentence; None where all channels reach a like height, as in grey images and in
        transmitted light.
    """
    empty = empty_channels(counts)
    if not empty:
        return None
    return (
        f"{slide.path}: there is next to nothing in its {COLOURS[empty[0]]}: several stains are "
        "painted in colours. A model that learned from grey fluorescence may find few cells or "
        "none in it. Give the stain alone and in grey: in Fiji, Image > Color > Split Channels."
    )


def small_doubt(
    view: WorkingView, card: ModelCard, count: int, median_px: float | None
) -> str | None:
    """Say that cells are smaller than a model tells apart.

    Parameters
    ----------
    view : WorkingView
        Says whether a pixel size would show the slide to the model otherwise.
    card : ModelCard
        The model's.
    count : int
        Cells that were found; few say nothing.
    median_px : float or None
        The median of their diameters at the working level; None without cells.

    Returns
    -------
    str or None
        One sentence or two; None where they are large enough, or no least diameter is known.
    """
    rule = card.head.instances
    if rule is None or median_px is None or count < _FEW_CELLS:
        return None
    if median_px >= rule.least_diameter_px:
        return None
    doubt = (
        f"{view.slide.path}: half of its cells are less than {median_px:.1f} px across as the "
        f"model sees them; it tells those of {rule.least_diameter_px:g} px and more apart, and "
        "smaller ones may have run together."
    )
    if view.mpp is not None or view.fit_hw is not None or card.mpp is None:
        return doubt
    return (
        f"{doubt} The image states no pixel size: --mpp {card.mpp * _ENLARGED:g} shows it to the "
        f"model enlarged {_ENLARGED:g} times; sizes in µm mean nothing then."
    )


def small_cells_doubt(
    view: WorkingView, card: ModelCard, areas_px: NDArray[np.int64]
) -> str | None:
    """Say so of cells in memory, by their areas at the working level; see `small_doubt`."""
    if not areas_px.size:
        return None
    median_px = float(np.sqrt(np.median(areas_px) * 4 / np.pi))
    return small_doubt(view, card, areas_px.size, median_px)


def _oblong_doubt(slide: Slide) -> str | None:
    if slide.mpp is None or max(slide.mpp) <= _MOST_OBLONG * min(slide.mpp):
        return None
    x, y = slide.mpp
    return (
        f"{slide.path}: its pixels are not square, and a model sees cells pressed flat. Received: "
        f"mpp={x:.4g} x {y:.4g} (from {slide.properties.get('mpp from', 'the file')}). If that is "
        "wrong, give the right one with --mpp; else resample the image to square pixels first."
    )


def _disbelief(slide: Slide) -> str | None:
    stated = slide.properties.get(DISBELIEVED)
    if stated is None:
        return None
    return (
        f"{slide.path}: it says {stated}, which cannot be, and is taken for a file that says "
        "nothing of it. Give the right size of a pixel with --mpp."
    )


def _other_images_doubt(slide: Slide) -> str | None:
    others = slide.properties.get(OTHER_IMAGES)
    if others is None:
        return None
    base = slide.levels[0]
    return (
        f"{slide.path}: it holds more than one image, and only that of {base.width_px} x "
        f"{base.height_px} px is read. Not read: {others}. Save those as files of their "
        "own to have them segmented."
    )
