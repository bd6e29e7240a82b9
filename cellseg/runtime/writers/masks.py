"""Flat pictures of a result at the working resolution: masks, and the image with its classes.

They are what scripts and viewers of plain images expect, pixel for pixel on the image. Slides have
the pyramidal forms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellseg.runtime.writers.png import PngFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cellseg.runtime.writers.finished import FinishedRun

__all__ = ["write_blurred_mask", "write_colour_mask", "write_mask", "write_merged"]

_BAND_PX = 2**22
_MERGED = 102  # of 256: two fifths of a class' colour


def write_mask(path: Path, run: FinishedRun) -> None:
    """Write 255 where there is foreground of any class, 0 elsewhere; grey PNG."""
    hw = run.job.view.hw
    with PngFile(path, hw) as png:
        for y0, rows in _bands(hw):
            classes = run.classes.read(y0, 0, rows, hw[1])
            png.add(np.where(classes == 0, np.uint8(0), np.uint8(255)))


def write_blurred_mask(path: Path, run: FinishedRun) -> None:
    """Write the probability of foreground, smoothed by a Gaussian of ``blur_px``; grey PNG.

    The sigma is the one that OpenCV takes for a kernel of that side: 1.1 pixels for 5.
    """
    import cv2

    hw, side = run.job.view.hw, run.options.blur_px
    reach = side // 2
    with PngFile(path, hw) as png:
        for y0, rows in _bands(hw):
            top, bottom = max(0, y0 - reach), min(hw[0], y0 + rows + reach)
            grey = run.probability.read(top, 0, bottom - top, hw[1])
            blurred = np.asarray(cv2.GaussianBlur(grey, (side, side), 0), np.uint8)
            png.add(blurred[y0 - top : y0 - top + rows])


def write_colour_mask(path: Path, run: FinishedRun) -> None:
    """Write the class map in the bundle's colours; PNG with a palette, values are the classes."""
    hw = run.job.view.hw
    with PngFile(path, hw, palette=run.job.palette) as png:
        for y0, rows in _bands(hw):
            png.add(run.classes.read(y0, 0, rows, hw[1]))


def write_merged(path: Path, run: FinishedRun) -> None:
    """Write the image with the colours of its classes blended over it; RGB PNG."""
    from cellseg.runtime.kernels.palette import paint

    job = run.job
    hw, shown = job.view.hw, job.shown
    with PngFile(path, hw, channels=3) as png:
        for y0, rows in _bands(hw):
            rgb = np.array(shown.read(y0, 0, rows, hw[1]), order="C")
            classes = run.classes.read(y0, 0, rows, hw[1])
            paint(rgb, classes, classes, job.palette, _MERGED, _MERGED, 1)
            png.add(rgb)


def _bands(hw: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield first row and number of rows of bands that cover an image."""
    height, width = hw
    rows = max(1, _BAND_PX // width)
    for y0 in range(0, height, rows):
        yield y0, min(rows, height - y0)
