"""The one size that whole images are brought to, for models that were trained on whole images.

A recipe with ``input.fit = "whole"`` scales each training image by one factor until it fits the
network's input. The bundle says so (``input.fit``, ``input.fit_px``), and every image is scaled the
same way again: by `cellseg.runtime.view.working.WorkingView`, in training, evaluation and inference
alike. A slide is no such image: squeezed into that size, there would be nothing to see. Where the
bundle says how many microns a pixel had after scaling, or its network has seen images at their own
scale too, slides are read as by any other model. Else they are like nothing the network knows, and
refused, unless the user says ``native``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.errors import CellsegError, SlideError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cellseg.runtime.bundles.manifest import ModelCard
    from cellseg.runtime.slides.slide import Slide

__all__ = ["FITS", "bring_back", "bring_to", "wanted_fit"]

FITS = ("auto", "whole", "native")
"""What a user may ask for: as the model was trained, or one of the two."""


def wanted_fit(card: ModelCard, slide: Slide, wish: str = "auto") -> tuple[int, int] | None:
    """Return the height and width that a slide is to be scaled to fit; None: microns decide.

    Parameters
    ----------
    card : ModelCard
        Says what the model was trained on.
    slide : Slide
        Its kind counts: plain images are whole, slides are not.
    wish : str
        One of `FITS`.

    Raises
    ------
    CellsegError
        If ``whole`` is asked of a model without a size to fit.
    SlideError
        If a slide is given to a model that knows whole images only.
    """
    spec = card.input
    if wish == "whole" and spec.fit_px is None:
        raise CellsegError(
            "fit whole is for models that were trained on whole images brought to one size. "
            f"Received: fit={wish}, and a model trained at the images' own scale.",
            hint="Leave --fit out.",
        )
    if wish == "native" or spec.fit_px is None:
        return None
    if wish == "auto" and slide.kind == "slide":
        if spec.fit == "both" or card.mpp is not None:
            return None
        raise SlideError(
            f"{slide.path}: the model was trained on whole images brought to "
            f"{spec.fit_px[1]} x {spec.fit_px[0]} px, and a slide is no such image.",
            hint="If it shows one field, --fit whole scales it. For slides state [bundle] mpp, the "
            "pixel size after scaling, or train with [input] fit = 'native'. --fit native runs "
            "this model all the same, at a scale it has not seen.",
        )
    return spec.fit_px


def bring_to(image: NDArray[np.uint8], fit_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale an image by one factor until it fits a size, exactly as inference does.

    Parameters
    ----------
    image : uint8, shape (H, W, 3)
        RGB, its intensity range applied.
    fit_hw : (int, int)
        Height and width to fit.

    Returns
    -------
    uint8, shape (h, w, 3)
        One of ``h`` and ``w`` is that of ``fit_hw``, the other at most.

    Examples
    --------
    >>> bring_to(np.zeros((1200, 1600, 3), np.uint8), (512, 512)).shape
    (384, 512, 3)
    """
    from cellseg.runtime.slides.slide import ArraySlide
    from cellseg.runtime.view.working import WorkingView

    view = WorkingView(ArraySlide(image), None, fit_hw=fit_hw)
    return view.read(0, 0, *view.hw)


def bring_back(channels: NDArray[np.float32], hw: tuple[int, ...]) -> NDArray[np.float32]:
    """Scale a network's channels (h, w, C) to an image's size, linearly; shape (H, W, C)."""
    if channels.shape[:2] == hw:
        return channels
    import cv2

    resized: NDArray[Any] = cv2.resize(channels, hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32).reshape(*hw, channels.shape[-1])
