"""The slide with its result painted on: one JPEG that any program shows.

A slide is reduced by halvings until its longer side is at most 4096 pixels, and its classes are
filled in: single cells are too small for an outline. Where an image needs no reduction, cells get
an outline and hardly any fill; a very small one is enlarged first, so that the outline does not
hide what it surrounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg.runtime.writers.jpeg import write_jpeg, write_jpeg_strips

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cellseg.runtime.pictures.overview import ClassSurvey
    from cellseg.runtime.store.labels import LabelSource
    from cellseg.runtime.writers.finished import FinishedRun, PictureRows

__all__ = ["draw_overlay", "write_overlay"]

_ENLARGED_TO_PX = 1024
_MOST_ENLARGED = 4
_OPAQUE = 256
_FILL_WITH_OUTLINE = 26
_FILL_REDUCED = 100
_OUTLINE_REDUCED = 200
_EDGE_PX = 1


def write_overlay(path: Path, run: FinishedRun) -> None:
    """Draw the overlay of a run strip by strip and write it."""
    survey = run.survey
    cells = run.cells if survey.halvings == 0 else None
    strips = _Strips(run.picture_rows(), survey, cells, run.job.palette)
    if _enlargement(survey.overview.shape, survey.halvings) > 1:  # all of it is less than a strip
        write_jpeg(path, strips.draw(0, strips.hw[0]))
    else:
        write_jpeg_strips(path, strips.hw, strips.draw)


@dataclass(frozen=True)
class _Strips:
    """Draws rows of an overlay, with what lies above and below them in sight."""

    picture: PictureRows
    survey: ClassSurvey
    cells: LabelSource | None
    palette: NDArray[np.uint8]

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the picture before it is enlarged."""
        height, width = self.survey.overview.shape
        return height, width

    def draw(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return rows as they are painted; an outline knows what it separates beyond them."""
        top, bottom = max(start - _EDGE_PX, 0), min(stop + _EDGE_PX, self.hw[0])
        objects = None if self.cells is None else self.cells.read(top, 0, bottom - top, self.hw[1])
        drawn = draw_overlay(
            self.picture(top, bottom),
            self.survey.overview[top:bottom],
            self.palette,
            objects=objects,
            halvings=self.survey.halvings,
        )
        times = drawn.shape[1] // self.hw[1]
        return drawn[(start - top) * times : (stop - top) * times]


def draw_overlay(
    rgb: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    *,
    objects: NDArray[Any] | None = None,
    halvings: int = 0,
) -> NDArray[np.uint8]:
    """Paint a class map on a picture of the slide.

    Parameters
    ----------
    rgb : uint8, shape (h, w, 3)
        The slide.
    classes : uint8, shape (h, w)
        Class of each pixel; 0 stays as it is.
    palette : uint8, shape (n, 3)
        Colour of each class.
    objects : unsigned integers, shape (h, w), optional
        Instance labels: touching cells are then outlined one by one.
    halvings : int
        How often both were halved from the working level.

    Returns
    -------
    uint8, shape (h * k, w * k, 3)
        k > 1 for images smaller than about 1024 pixels.
    """
    from cellseg.runtime.kernels.palette import paint

    edges = classes if objects is None else objects
    times = _enlargement(classes.shape, halvings)
    picture = _enlarged(rgb, times)
    if times > 1:
        classes, edges = (e.repeat(times, axis=0).repeat(times, axis=1) for e in (classes, edges))
    weights = (_FILL_WITH_OUTLINE, _OPAQUE) if halvings == 0 else (_FILL_REDUCED, _OUTLINE_REDUCED)
    # A line of one pixel is lost beside cells of a hundred.
    paint(picture, classes, edges, palette, *weights, 2 if times > 1 else 1)
    return picture


def _enlargement(hw: tuple[int, ...], halvings: int) -> int:
    return 1 if halvings else max(1, min(_MOST_ENLARGED, _ENLARGED_TO_PX // max(hw)))


def _enlarged(rgb: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """Return a contiguous copy, enlarged smoothly."""
    if times == 1:
        return np.array(rgb, order="C")

    import cv2

    size = (rgb.shape[1] * times, rgb.shape[0] * times)
    enlarged = cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(enlarged, np.uint8)
